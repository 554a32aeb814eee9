// y = acc * s_token * s_channel, + bias, * layer_scale, + residual: in float32, rounded once to the output's type.
#pragma once

#include <device.cuh>

#include "arguments.h"

// Channels that one thread computes of a row: 16 bytes of sums.
constexpr int kLaneChannels = 4;

template <class T>
struct alignas(kLaneChannels * sizeof(T)) Four {
  T element[kLaneChannels];
};

// Which of a thread's channels there are, of `left` from its first one on. Where rows have a multiple of 4 channels,
// every four are `whole` and aligned; else single values are loaded and stored.
struct Share {
  int64_t left;
  bool whole;

  __device__ Share(int64_t channels, int64_t column) : left(channels - column), whole(channels % kLaneChannels == 0) {}

  template <class T>
  __device__ void load(float (&x)[kLaneChannels], const T* source) const {
    if (whole) {
      const Four<T> four = *reinterpret_cast<const Four<T>*>(source);
#pragma unroll
      for (int i = 0; i < kLaneChannels; ++i) x[i] = to_float(four.element[i]);
    } else {
#pragma unroll
      for (int i = 0; i < kLaneChannels; ++i) x[i] = i < left ? to_float(source[i]) : 0.0f;
    }
  }

  template <class T>
  __device__ void store(T* target, const T (&x)[kLaneChannels]) const {
    if (whole) {
      *reinterpret_cast<Four<T>*>(target) = {{x[0], x[1], x[2], x[3]}};
    } else {
#pragma unroll
      for (int i = 0; i < kLaneChannels; ++i) {
        if (i < left) target[i] = x[i];
      }
    }
  }
};

// What a thread's channels are multiplied by and added; factors of 1 and terms of 0 where the caller gave none.
struct Channels {
  Share share;
  float factor[kLaneChannels] = {}, term[kLaneChannels] = {}, layer[kLaneChannels] = {1.0f, 1.0f, 1.0f, 1.0f};

  // `Arguments` has the names of `arguments.h`.
  template <class Arguments>
  __device__ Channels(const Arguments& p, int64_t column) : share(p.n, column) {
    share.load(factor, p.channel_scale + column);
    if (p.bias) share.load(term, p.bias + column);
    if (p.layer_scale) share.load(layer, p.layer_scale + column);
  }

  // A thread's part of a row of the output; `residual` is null or its part of that.
  template <class T, class Sum>
  __device__ void store_row(T* output, const T* residual, const Sum (&sums)[kLaneChannels], float token) const {
    float y[kLaneChannels];
#pragma unroll
    for (int i = 0; i < kLaneChannels; ++i) {
      y[i] = (static_cast<float>(sums[i]) * token * factor[i] + term[i]) * layer[i];
    }
    if (residual) {
      float add[kLaneChannels];
      share.load(add, residual);
#pragma unroll
      for (int i = 0; i < kLaneChannels; ++i) y[i] += add[i];
    }
    T rounded[kLaneChannels];
#pragma unroll
    for (int i = 0; i < kLaneChannels; ++i) rounded[i] = from_float<T>(y[i]);
    share.store(output, rounded);
  }
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
