// y = acc * s_token * s_channel, + bias, * layer_scale, + residual: in float32, rounded once to the output's type.
#pragma once

#include <device.cuh>

#include <type_traits>

#include "arguments.h"

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
