// The epilogue of our products behind a product of another library, whose whole sums lie in memory: one pass, in which
// the lanes of a warp load neighbouring vectors of 16 bytes and a thread keeps its channels' parameters for all its
// rows.
#include <device.cuh>

#include "arguments.h"
#include "epilogue.cuh"
#include "vectors.cuh"

namespace {

constexpr int kWarp = 32, kThreads = 256, kWarps = kThreads / kWarp;
constexpr int kRows = 8;  // of a thread, whose sums are all on their way before the first is used
constexpr int kTileTokens = kWarps * kRows, kTileChannels = kWarp * kLaneChannels;

unsigned tiles(int64_t length, int tile) { return static_cast<unsigned>((length + tile - 1) / tile); }

template <class Sum, class T>
__global__ void __launch_bounds__(kThreads) epilogue_kernel(const EpilogueArguments p) {
  const unsigned across = (static_cast<unsigned>(p.n) + kTileChannels - 1) / kTileChannels;
  const int64_t column = blockIdx.x % across * kTileChannels + threadIdx.x % kWarp * kLaneChannels;
  if (column >= p.n) return;
  const int64_t first = static_cast<int64_t>(blockIdx.x / across) * kTileTokens + threadIdx.x / kWarp;
  const Channels own(p, column);
  const int64_t at = first * p.n + column;
  const Sum* const source = static_cast<const Sum*>(p.sums) + first * p.pitch + column;
  T* const output = static_cast<T*>(p.output) + at;
  const T* const residual = p.residual ? static_cast<const T*>(p.residual) + at : nullptr;

  Vector<Sum> sums[kRows];
#pragma unroll
  for (int i = 0; i < kRows; ++i) {
    if (first + i * kWarps < p.m) sums[i] = *reinterpret_cast<const Vector<Sum>*>(source + i * kWarps * p.pitch);
  }
#pragma unroll
  for (int i = 0; i < kRows; ++i) {
    const int64_t token = first + i * kWarps, ahead = i * kWarps * p.n;
    if (token >= p.m) return;
    own.store_row(output + ahead, residual ? residual + ahead : nullptr, sums[i].element, p.token_scale[token]);
  }
}

template <class Sum, class T>
int launch_epilogue(const EpilogueArguments& p) {
  const int64_t blocks = int64_t{tiles(p.m, kTileTokens)} * tiles(p.n, kTileChannels);
  if (blocks > INT32_MAX) return kInvalidArgument;
  return launch(epilogue_kernel<Sum, T>, static_cast<unsigned>(blocks), kThreads, 0, static_cast<Stream>(p.stream), p);
}

template <class Sum>
int launch_output(const EpilogueArguments& p) {
  switch (p.output_dtype) {
    case kFloat32:
      return launch_epilogue<Sum, float>(p);
    case kFloat16:
      return launch_epilogue<Sum, Half>(p);
    case kBFloat16:
      return launch_epilogue<Sum, BFloat16>(p);
  }
  return kInvalidArgument;
}

}  // namespace

extern "C" int quantvggt_epilogue(const EpilogueArguments* arguments) {
  const EpilogueArguments& p = *arguments;
  if (p.m < 0 || p.m > INT32_MAX || p.n <= 0 || p.n > INT32_MAX) return kInvalidArgument;
  if (p.pitch < p.n || p.pitch % kLaneChannels) return kInvalidArgument;
  if (p.m == 0) return 0;
  switch (p.sums_dtype) {
    case kInt32:
      return launch_output<int32_t>(p);
    case kFloat32:
      return launch_output<float>(p);
  }
  return kInvalidArgument;
}
