// y = acc * s_token * s_channel, + bias, * layer_scale, + residual: in float32, rounded once to the output's type.
#pragma once

#include <device.cuh>

#include "arguments.h"

__device__ inline float finish(const GemmArguments& p, int32_t accumulator, float token_scale, int64_t column) {
  float y = static_cast<float>(accumulator) * token_scale * p.channel_scale[column];
  if (p.bias) y += p.bias[column];
  if (p.layer_scale) y *= p.layer_scale[column];
  return y;
}

template <class T>
struct alignas(2 * sizeof(T)) Pair {
  T first, second;
};

// Writes the accumulators of `row` at `column` and `column + 1`, as far as they lie inside. A pair is written at once
// where every row starts at an even element.
template <class T>
__device__ inline void store_pair(const GemmArguments& p, int64_t row, int64_t column, float first, float second) {
  const int64_t at = row * p.n + column;
  const T* residual = static_cast<const T*>(p.residual);
  T* output = static_cast<T*>(p.output);
  if (p.n % 2 == 0) {
    if (residual) {
      const Pair<T> add = *reinterpret_cast<const Pair<T>*>(residual + at);
      first += to_float(add.first);
      second += to_float(add.second);
    }
    *reinterpret_cast<Pair<T>*>(output + at) = {from_float<T>(first), from_float<T>(second)};
    return;
  }
  output[at] = from_float<T>(residual ? first + to_float(residual[at]) : first);
  if (column + 1 < p.n) output[at + 1] = from_float<T>(residual ? second + to_float(residual[at + 1]) : second);
}

__device__ inline void store_accumulators(const GemmArguments& p, int64_t row, int64_t column, int32_t first,
                                          int32_t second) {
  if (row >= p.m || column >= p.n) return;
  if (p.output_dtype == kInt32) {
    int32_t* output = static_cast<int32_t*>(p.output) + row * p.n + column;
    output[0] = first;
    if (column + 1 < p.n) output[1] = second;
    return;
  }
  const float token_scale = p.token_scale[row];
  const float y0 = finish(p, first, token_scale, column);
  const float y1 = column + 1 < p.n ? finish(p, second, token_scale, column + 1) : 0.0f;
  if (p.output_dtype == kFloat32) store_pair<float>(p, row, column, y0, y1);
  if (p.output_dtype == kFloat16) store_pair<Half>(p, row, column, y0, y1);
  if (p.output_dtype == kBFloat16) store_pair<BFloat16>(p, row, column, y0, y1);
}
