// Queries and keys of all heads from the fused projection's output, with LayerNorm and a two-dimensional rotary
// position embedding, in the layout of attention. One warp owns the query or the key of one head and token.
#include <device.cuh>

#include "arguments.h"

namespace {

constexpr int kWarp = 32;
constexpr int kWarps = 8;  // of a block
constexpr int kLargestHead = 256;

__device__ float warp_sum(float value) {
  for (int mask = kWarp / 2; mask > 0; mask /= 2) value += shuffle_xor(value, mask);
  return value;
}

// LayerNorm of the `width` values that this warp keeps in shared memory, lane l at l, l + 32, ...
__device__ void normalize(float* values, int width, int lane, const float* weight, const float* bias, float epsilon) {
  float sum = 0.0f, squares = 0.0f;
  for (int i = lane; i < width; i += kWarp) sum += values[i];
  const float mean = warp_sum(sum) / width;
  for (int i = lane; i < width; i += kWarp) squares += (values[i] - mean) * (values[i] - mean);
  const float deviation = sqrtf(warp_sum(squares) / width + epsilon);
  for (int i = lane; i < width; i += kWarp) {
    values[i] = (values[i] - mean) / deviation * weight[i] + (bias ? bias[i] : 0.0f);
  }
}

// Each half of a head is a pair of contiguous quarters (a, b) turned to (a cos - b sin, b cos + a sin).
__device__ float turned(const float* values, int i, int quarter, float cosine, float sine) {
  const bool second = i / quarter % 2;
  return values[i] * cosine + (second ? values[i - quarter] : -values[i + quarter]) * sine;
}

template <class T>
__global__ void __launch_bounds__(kWarps* kWarp) qk_norm_rope_kernel(const QkNormRopeArguments p) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int64_t item = static_cast<int64_t>(blockIdx.x) * kWarps + warp;  // of [batch, tokens, 2, heads]
  if (item >= p.batch * p.tokens * 2 * p.heads) return;                   // the whole warp leaves
  const int head = static_cast<int>(item % p.heads);
  const bool key = item / p.heads % 2;
  const int64_t row = item / p.heads / 2, batch = row / p.tokens, token = row % p.tokens;
  const T* source = static_cast<const T*>(p.qkv) + ((row * 3 + key) * p.heads + head) * p.width;
  T* target = static_cast<T*>(key ? p.k : p.q) + ((batch * p.heads + head) * p.tokens + token) * p.width;

  float* values = reinterpret_cast<float*>(shared_memory()) + warp * p.width;
  for (int i = lane; i < p.width; i += kWarp) values[i] = to_float(source[i]);
  const float* weight = key ? p.k_weight : p.q_weight;
  if (weight) normalize(values, p.width, lane, weight, key ? p.k_bias : p.q_bias, p.epsilon);
  synchronize_warp();  // a turned element needs its partner, which another lane holds
  const int64_t angle = token * p.width;
  for (int i = lane; i < p.width; i += kWarp) {
    const float y = p.cosines ? turned(values, i, p.width / 4, p.cosines[angle + i], p.sines[angle + i]) : values[i];
    target[i] = from_float<T>(y);
  }
}

template <class T>
int launch_qk_norm_rope(const QkNormRopeArguments& p) {
  const int64_t blocks = (p.batch * p.tokens * 2 * p.heads + kWarps - 1) / kWarps;
  if (blocks > INT32_MAX) return kInvalidArgument;
  return launch(qk_norm_rope_kernel<T>, static_cast<unsigned>(blocks), kWarps * kWarp, kWarps * p.width * sizeof(float),
                static_cast<Stream>(p.stream), p);
}

}  // namespace

extern "C" int quantvggt_qk_norm_rope(const QkNormRopeArguments* arguments) {
  const QkNormRopeArguments& p = *arguments;
  if (p.batch < 0 || p.tokens < 0 || p.heads <= 0 || p.width <= 0 || p.width > kLargestHead) return kInvalidArgument;
  if (p.cosines && p.width % 4) return kInvalidArgument;
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
