// What the shared object says about itself.
#include <device.cuh>

#include "arguments.h"

extern "C" const char* quantvggt_error(int error) {
  return error == kInvalidArgument ? "an argument is out of range" : error_name(error);
}

extern "C" int64_t quantvggt_arguments_bytes(int structure) {
  constexpr int64_t bytes[] = {sizeof(GemmArguments), sizeof(EpilogueArguments), sizeof(PrologueArguments),
                               sizeof(QkNormRopeArguments)};
  return structure >= 0 && structure < 4 ? bytes[structure] : 0;
}
