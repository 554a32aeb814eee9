// Queries and keys of all heads from the fused projection's output, with LayerNorm and a two-dimensional rotary
// position embedding, in the layout of attention. One warp owns the queries or the keys of one token; 8 elements of a
// head lie with one thread, and a warp takes as many heads at a time as fit.
#include <device.cuh>

#include "arguments.h"
#include "vectors.cuh"

namespace {

constexpr int kWarp = 32;
constexpr int kWarps = 8;     // of a block
constexpr int kElements = 8;  // of a head, held by one thread

// The sum over the `lanes` neighbouring lanes that share a head.
template <int lanes>
__device__ float head_sum(float value) {
#pragma unroll
  for (int mask = 1; mask < lanes; mask *= 2) value += shuffle_xor(value, mask);
  return value;
}

template <int width>
__device__ void normalize(float (&x)[kElements], const float (&weight)[kElements], const float (&bias)[kElements],
                          float epsilon) {
  constexpr int lanes = width / kElements;
  float sum = 0.0f, squares = 0.0f;
#pragma unroll
  for (int e = 0; e < kElements; ++e) sum += x[e];
  const float mean = head_sum<lanes>(sum) / width;
#pragma unroll
  for (int e = 0; e < kElements; ++e) {
    x[e] -= mean;
    squares += x[e] * x[e];
  }
  const float inverse = 1.0f / sqrtf(head_sum<lanes>(squares) / width + epsilon);
#pragma unroll
  for (int e = 0; e < kElements; ++e) x[e] = x[e] * inverse * weight[e] + bias[e];
}

// Each half of a head is a pair of contiguous quarters (a, b) turned to (a cos - b sin, b cos + a sin). `sine` has the
// sign of its quarter already; the partner's quarter lies with the lane `width / 4 / kElements` further on or back.
template <int width>
__device__ void turn(float (&x)[kElements], const float (&cosine)[kElements], const float (&sine)[kElements]) {
#pragma unroll
  for (int e = 0; e < kElements; ++e) {
    const float partner = shuffle_xor(x[e], width / 4 / kElements);
    x[e] = x[e] * cosine[e] + partner * sine[e];
  }
}

template <class T, int width>
__global__ void __launch_bounds__(kWarps* kWarp) qk_norm_rope_kernel(const QkNormRopeArguments p) {
  constexpr int lanes = width / kElements, heads_at_once = kWarp / lanes;
  const unsigned tokens = static_cast<unsigned>(p.tokens), rows = static_cast<unsigned>(p.batch) * tokens;
  const unsigned item = blockIdx.x * kWarps + threadIdx.x / kWarp;  // of [batch, tokens, 2]
  if (item >= 2 * rows) return;                                     // the whole warp leaves
  const unsigned row = item / 2, batch = row / tokens, token = row % tokens;
  const bool key = item % 2;
  const int lane = threadIdx.x % kWarp, first = lane % lanes * kElements;

  const float* weights = key ? p.k_weight : p.q_weight;
  const float* biases = key ? p.k_bias : p.q_bias;
  float weight[kElements], bias[kElements] = {}, cosine[kElements], sine[kElements];
  if (weights) load_values(weights + first, weight);
  if (weights && biases) load_values(biases + first, bias);
  if (p.cosines) {
    const int64_t angle = static_cast<int64_t>(token) * width + first;
    load_values(p.cosines + angle, cosine);
    load_values(p.sines + angle, sine);
    const bool turns_back = first / (width / 4) % 2 == 0;
#pragma unroll
    for (int e = 0; e < kElements; ++e) sine[e] = turns_back ? -sine[e] : sine[e];
  }

  const int64_t head_stride = static_cast<int64_t>(tokens) * width;  // of the output
  int head = lane / lanes;
  const T* source =
      static_cast<const T*>(p.qkv) + (static_cast<int64_t>(row) * 3 + key) * p.heads * width + head * width + first;
  T* target = static_cast<T*>(key ? p.k : p.q) + (static_cast<int64_t>(batch) * p.heads + head) * head_stride +
              static_cast<int64_t>(token) * width + first;
  for (int start = 0; start < p.heads; start += heads_at_once) {
    float x[kElements] = {};
    if (head < p.heads) load_values(source, x);
    if (weights) normalize<width>(x, weight, bias, p.epsilon);
    if (p.cosines) turn<width>(x, cosine, sine);
    if (head < p.heads) store_values(target, x);
    head += heads_at_once;
    source += heads_at_once * width;
    target += heads_at_once * head_stride;
  }
}

template <class T, int width>
int launch_width(const QkNormRopeArguments& p) {
  const int64_t blocks = (p.batch * p.tokens * 2 + kWarps - 1) / kWarps;
  if (blocks > INT32_MAX / kWarps) return kInvalidArgument;
  return launch(qk_norm_rope_kernel<T, width>, static_cast<unsigned>(blocks), kWarps * kWarp, 0,
                static_cast<Stream>(p.stream), p);
}

template <class T>
int launch_qk_norm_rope(const QkNormRopeArguments& p) {
  switch (p.width) {
    case 32:
      return launch_width<T, 32>(p);
    case 64:
      return launch_width<T, 64>(p);
    case 128:
      return launch_width<T, 128>(p);
    case 256:
      return launch_width<T, 256>(p);
  }
  return kInvalidArgument;
}

}  // namespace

extern "C" int quantvggt_qk_norm_rope(const QkNormRopeArguments* arguments) {
  const QkNormRopeArguments& p = *arguments;
  if (p.batch < 0 || p.tokens < 0 || p.heads <= 0) return kInvalidArgument;
  if (p.batch * p.tokens == 0) return 0;
  switch (p.dtype) {
    case kFloat32:
      return launch_qk_norm_rope<float>(p);
    case kFloat16:
      return launch_qk_norm_rope<Half>(p);
    case kBFloat16:
      return launch_qk_norm_rope<BFloat16>(p);
  }
  return kInvalidArgument;
}
