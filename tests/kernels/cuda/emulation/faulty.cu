// Kernels with the faults that the emulation must show, and one without any.
#include <device.cuh>

namespace {

struct Arguments {
  const float* input;
  float* output;
};

// Every thread reads the value of its mirror image, which another thread writes.
template <bool synchronized>
void mirror(const Arguments p) {
  float* values = reinterpret_cast<float*>(shared_memory());
  values[threadIdx.x] = p.input[threadIdx.x];
  if (synchronized) synchronize_block();
  p.output[threadIdx.x] = values[blockDim.x - 1 - threadIdx.x];
}

// Every thread copies its own 16 bytes and reads them, with or without waiting for them.
template <bool waits>
void copy(const Arguments p) {
  float* values = reinterpret_cast<float*>(shared_memory());
  copy_async(values + 4 * threadIdx.x, p.input + 4 * threadIdx.x, true);
  commit_copies();
  if (waits) wait_for_copies<0>();
  p.output[threadIdx.x] = values[4 * threadIdx.x];
}

void barrier_for_some(const Arguments) {
  if (threadIdx.x < 7) synchronize_block();
  if (threadIdx.x >= 7) shuffle_xor(0.0f, 1);
}

void beyond_shared_memory(const Arguments p) {
  p.output[threadIdx.x] = shared_memory()[4 * 64 * sizeof(float) + threadIdx.x];
}

}  // namespace

extern "C" int run(int kernel, const float* input, float* output) {
  constexpr void (*kernels[])(Arguments) = {mirror<true>, mirror<false>,    copy<true>,
                                            copy<false>,  barrier_for_some, beyond_shared_memory};
  return launch(kernels[kernel], 1, 64, 4 * 64 * sizeof(float), nullptr, Arguments{input, output});
}
