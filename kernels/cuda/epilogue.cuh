// y = acc * s_token * s_channel, + bias, * layer_scale, + residual: in float32, rounded once to the output's type.
#pragma once

#include <device.cuh>

#include <type_traits>

#include "arguments.h"
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
    const int64_t column = first_channel + place, left = p.n - column;
    if (left <= 0) return;
    const int rows = static_cast<int>(p.m - first_token < tokens ? p.m - first_token : tokens);
    const int32_t* source = values_ + first * stride + place;
    const int64_t at = (first_token + first) * p.n + column;
    T* output = static_cast<T*>(p.output) + at;
    const T* residual = p.residual ? static_cast<const T*>(p.residual) + at : nullptr;
    const Channels<T> own(p, column);
    const bool whole = p.n % kLaneChannels == 0;  // then every vector is aligned, and inside
#pragma unroll(unrolled)
    for (int row = first; row < rows; row += step) {
      const Vector<int32_t> sums = *reinterpret_cast<const Vector<int32_t>*>(source);
      if constexpr (std::is_same_v<T, int32_t>) {
        put_row(output, sums.element, whole, left);
      } else {
        float y[kLaneChannels];
        own.scale(y, sums.element, p.token_scale[first_token + row]);
        if (residual) add_row(y, residual, whole, left);
        T rounded[kLaneChannels];
#pragma unroll
        for (int i = 0; i < kLaneChannels; ++i) rounded[i] = from_float<T>(y[i]);
        put_row(output, rounded, whole, left);
      }
      source += step * stride;
      output += step * p.n;
      if (residual) residual += step * p.n;
    }
  }

 private:
  static constexpr int kLaneChannels = 4;

  struct alignas(8) Pair {
    int32_t first, second;
  };

  template <class T>
  struct alignas(kLaneChannels * sizeof(T)) Four {
    T element[kLaneChannels];
  };

  // What a lane's channels are multiplied by and added; factors of 1 and terms of 0 where the caller gave none.
  template <class T>
  struct Channels {
    float factor[kLaneChannels] = {}, term[kLaneChannels] = {}, layer[kLaneChannels] = {1.0f, 1.0f, 1.0f, 1.0f};

    __device__ Channels(const GemmArguments& p, int64_t column) {
      if constexpr (!std::is_same_v<T, int32_t>) {
#pragma unroll
        for (int i = 0; i < kLaneChannels; ++i) {
          if (column + i >= p.n) break;
          factor[i] = p.channel_scale[column + i];
          if (p.bias) term[i] = p.bias[column + i];
          if (p.layer_scale) layer[i] = p.layer_scale[column + i];
        }
      }
    }

    __device__ void scale(float (&y)[kLaneChannels], const int32_t (&sums)[kLaneChannels], float token) const {
#pragma unroll
      for (int i = 0; i < kLaneChannels; ++i) {
        y[i] = (static_cast<float>(sums[i]) * token * factor[i] + term[i]) * layer[i];
      }
    }
  };

  template <class T>
  static __device__ void add_row(float (&y)[kLaneChannels], const T* residual, bool whole, int64_t left) {
    if (whole) {
      const Four<T> add = *reinterpret_cast<const Four<T>*>(residual);
#pragma unroll
      for (int i = 0; i < kLaneChannels; ++i) y[i] += to_float(add.element[i]);
    } else {
#pragma unroll
      for (int i = 0; i < kLaneChannels; ++i) y[i] += i < left ? to_float(residual[i]) : 0.0f;
    }
  }

  template <class T>
  static __device__ void put_row(T* output, const T (&row)[kLaneChannels], bool whole, int64_t left) {
    if (whole) {
      *reinterpret_cast<Four<T>*>(output) = {{row[0], row[1], row[2], row[3]}};
    } else {
#pragma unroll
      for (int i = 0; i < kLaneChannels; ++i) {
        if (i < left) output[i] = row[i];
      }
    }
  }

  int32_t* values_;
};

template <class T>
struct TypeOf {
  using type = T;
};

// Calls `write` with the TypeOf the output: the type is chosen once, not for every element.
template <class Write>
__device__ void for_output_type(int32_t dtype, const Write& write) {
  switch (dtype) {
    case kFloat32:
      return write(TypeOf<float>{});
    case kFloat16:
      return write(TypeOf<Half>{});
    case kBFloat16:
      return write(TypeOf<BFloat16>{});
    case kInt32:
      return write(TypeOf<int32_t>{});
  }
}
