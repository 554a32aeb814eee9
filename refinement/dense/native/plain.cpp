// For any processor.
#include "patchmatch.h"

Functions plain_functions() { return {score, rate, improve}; }
