// y = acc * s_token * s_channel, + bias, * layer_scale, + residual: in float32, rounded once to the output's type.
#pragma once

#include <device.cuh>

#include <type_traits>

#include "arguments.h"
#include "vectors.cuh"

template <class T>
struct alignas(2 * sizeof(T)) Pair {
  T first, second;
};

// Two neighbouring channels of the output, from an even one on, of type T; as int32_t the bare accumulators.
template <class T>
class OutputPair {
 public:
  __device__ OutputPair(const GemmArguments& p, int64_t column) : p_(p), column_(column) {
    if (column >= p.n) return;
    if constexpr (!bare) {
      const int64_t next = column + 1 < p.n ? column + 1 : column;
      scale_ = {p.channel_scale[column], p.channel_scale[next]};
      if (p.bias) bias_ = {p.bias[column], p.bias[next]};
      if (p.layer_scale) layer_scale_ = {p.layer_scale[column], p.layer_scale[next]};
    }
  }

  __device__ void store(int64_t row, int32_t first, int32_t second) const {
    if (row >= p_.m || column_ >= p_.n) return;
    const int64_t at = row * p_.n + column_;
    T* output = static_cast<T*>(p_.output) + at;
    const bool both = column_ + 1 < p_.n;
    if constexpr (bare) {
      output[0] = first;
      if (both) output[1] = second;
    } else {
      const float token_scale = p_.token_scale[row];
      Pair<float> y = {static_cast<float>(first) * token_scale * scale_.first,
                       static_cast<float>(second) * token_scale * scale_.second};
      if (p_.bias) y = {y.first + bias_.first, y.second + bias_.second};
      if (p_.layer_scale) y = {y.first * layer_scale_.first, y.second * layer_scale_.second};
      const T* residual = p_.residual ? static_cast<const T*>(p_.residual) + at : nullptr;
      if (p_.n % 2 == 0) {  // then every pair is aligned
        if (residual) {
          const Pair<T> add = *reinterpret_cast<const Pair<T>*>(residual);
          y = {y.first + to_float(add.first), y.second + to_float(add.second)};
        }
        *reinterpret_cast<Pair<T>*>(output) = {from_float<T>(y.first), from_float<T>(y.second)};
      } else {
        output[0] = from_float<T>(residual ? y.first + to_float(residual[0]) : y.first);
        if (both) output[1] = from_float<T>(residual ? y.second + to_float(residual[1]) : y.second);
      }
    }
  }

 private:
  static constexpr bool bare = std::is_same_v<T, int32_t>;

  const GemmArguments& p_;
  int64_t column_;
  Pair<float> scale_{}, bias_{}, layer_scale_{};
};

// A tile's accumulators in shared memory, [tokens, channels], on their way to the output. Rows are padded so that the
// lanes of `put`, 4 pairs of tokens with 8 channels each, meet no bank twice. A warp stores a row at a time, each lane 4
// neighbouring channels, whose parameters it keeps.
template <int tokens, int threads>
class StagedTile {
 public:
  static constexpr int channels = 128, stride = channels + 4, bytes = tokens * stride * 4;

  __device__ explicit StagedTile(unsigned char* shared) : values_(reinterpret_cast<int32_t*>(shared)) {}

  __device__ void put(int token, int channel, int32_t value) { values_[token * stride + channel] = value; }

  // Every thread of the block must be done with `put`, behind a barrier.
  template <class T>
  __device__ void store(const GemmArguments& p, int64_t first_token, int64_t first_channel) const {
    constexpr int step = threads / 32;
    const int first = threadIdx.x / 32, place = threadIdx.x % 32 * kLaneChannels;
    const int64_t column = first_channel + place, left = p.n - column;
    if (left <= 0) return;
    const int rows = static_cast<int>(p.m - first_token < tokens ? p.m - first_token : tokens);
    const int32_t* source = values_ + first * stride + place;
    const int64_t at = (first_token + first) * p.n + column;
    T* output = static_cast<T*>(p.output) + at;
    const T* residual = p.residual ? static_cast<const T*>(p.residual) + at : nullptr;
    const Channels<T> own(p, column);
    const bool whole = p.n % kLaneChannels == 0;  // then every vector is aligned, and inside
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
