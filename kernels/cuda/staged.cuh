// A tile's accumulators on their way from registers to the output.
#pragma once

#include <device.cuh>

#include <type_traits>

#include "arguments.h"
#include "epilogue.cuh"
#include "vectors.cuh"

#pragma nv_diag_suppress 20168  // a loop whose unrolling is left to the compiler, see StagedTile

// Accumulators of a tile in shared memory, [tokens, channels], on their way to the output. Rows are `padding` further
// apart than they are long, so that the lanes of a warp meet no bank twice: 4 where they put single values of 4 pairs of
// tokens and 8 channels, 8 where they put pairs. Then each thread stores 4 neighbouring channels of a row, always the
// same ones, whose parameters it keeps; of its rows so many are `unrolled`, 0: as the compiler likes.
template <int tokens, int channels, int threads, int padding, int unrolled>
class StagedTile {
 public:
  static constexpr int stride = channels + padding, bytes = tokens * stride * 4;

  __device__ explicit StagedTile(unsigned char* shared) : values_(reinterpret_cast<int32_t*>(shared)) {}

  __device__ void put(int token, int channel, int32_t value) { values_[token * stride + channel] = value; }

  // From an even channel on.
  __device__ void put_pair(int token, int channel, int32_t first, int32_t second) {
    *reinterpret_cast<Pair*>(values_ + token * stride + channel) = {first, second};
  }

  // Every thread of the block must be done with `put`, behind a barrier.
  template <class T>
  __device__ void store(const GemmArguments& p, int64_t first_token, int64_t first_channel) const {
    constexpr int threads_of_row = channels / kLaneChannels, step = threads / threads_of_row;
    const int first = threadIdx.x / threads_of_row, place = threadIdx.x % threads_of_row * kLaneChannels;
    const int64_t column = first_channel + place;
    if (column >= p.n) return;
    const int rows = static_cast<int>(p.m - first_token < tokens ? p.m - first_token : tokens);
    const int32_t* source = values_ + first * stride + place;
    const int64_t at = (first_token + first) * p.n + column;
    T* output = static_cast<T*>(p.output) + at;
    const T* residual = p.residual ? static_cast<const T*>(p.residual) + at : nullptr;
    const auto own = parameters<T>(p, column);
#pragma unroll(unrolled)
    for (int row = first; row < rows; row += step) {
      const Vector<int32_t> sums = *reinterpret_cast<const Vector<int32_t>*>(source);
      if constexpr (std::is_same_v<T, int32_t>) {
        own.store(output, sums.element);
      } else {
        own.store_row(output, residual, sums.element, p.token_scale[first_token + row]);
      }
      source += step * stride;
      output += step * p.n;
      if (residual) residual += step * p.n;
    }
  }

 private:
  struct alignas(8) Pair {
    int32_t first, second;
  };

  // Bare sums have none.
  template <class T>
  static __device__ auto parameters(const GemmArguments& p, int64_t column) {
    if constexpr (std::is_same_v<T, int32_t>) {
      return Share(p.n, column);
    } else {
      return Channels(p, column);
    }
  }

  int32_t* values_;
};
