// Compiled for processors with AVX2 and FMA.
#include "patchmatch.h"

Functions avx2_functions() { return {score, rate, improve}; }
