// Codes of a quantised layer's input in one pass: LayerNorm or GELU, rotation, smoothing, per-token scale, rounding,
// packing. One group of threads owns a row, each thread 16 of its elements, all in float32 and in the order of
// `reference.py`, so that a row without LayerNorm or GELU gets the definition's very codes.
#include <device.cuh>

#include "arguments.h"

namespace {

constexpr int kElements = 16;  // of a row, held by one thread
constexpr int kElementBits = 4;
constexpr int kWarp = 32;
constexpr int kLargestWidth = 4096;
constexpr int kSmallBlock = 128;  // threads; narrow rows share a block

// Rows in shared memory are padded so that none of the access patterns below meets a bank twice.
__host__ __device__ constexpr int padded(int element) { return element + element / 32 * 4 + element / 256 * 16; }

__host__ __device__ inline int threads_per_row(int64_t width) {
  int threads = 1;
  while (threads * kElements < width) threads *= 2;
  return threads;
}

__device__ inline float gelu(float x) { return 0.5f * x * (1.0f + erff(x * 0.70710678118654752f)); }

// The row that this thread works on, its share of it, and the row's scratch in shared memory.
struct Row {
  int width, threads, thread;
  bool active;      // false: beyond the last row or the last element; takes part in barriers only
  float* values;    // padded(width) floats
  float* partials;  // one per warp of the row

  // Element `e` of this thread when its 16 are `1 << shift` apart.
  __device__ int element(int e, int shift) const {
    return (thread >> shift << (shift + kElementBits)) | (e << shift) | (thread & ((1 << shift) - 1));
  }
};

struct Sum {
  static constexpr float neutral = 0.0f;
  __device__ static float combine(float a, float b) { return a + b; }
};
struct Maximum {
  static constexpr float neutral = -3.402823466e+38f;
  __device__ static float combine(float a, float b) { return a < b ? b : a; }
};

// Combines one value of every thread of the row; all threads of the block must call it.
template <class Operation>
__device__ float reduce(const Row& row, float value) {
  const int lanes = row.threads < kWarp ? row.threads : kWarp;
  for (int mask = 1; mask < lanes; mask *= 2) value = Operation::combine(value, shuffle_xor(value, mask));
  if (row.threads <= kWarp) return value;
  synchronize_block();
  if (row.thread % kWarp == 0) row.partials[row.thread / kWarp] = value;
  synchronize_block();
  value = Operation::neutral;
  for (int warp = 0; warp < row.threads / kWarp; ++warp) value = Operation::combine(value, row.partials[warp]);
  return value;
}

template <class T>
struct alignas(16) Vector {
  T element[16 / sizeof(T)];
};

struct alignas(8) Eight {
  uint32_t low, high;
};

template <class T>
__device__ void load(const Row& row, const T* source, float (&x)[kElements]) {
  constexpr int width = 16 / sizeof(T);
  const Vector<T>* vectors = reinterpret_cast<const Vector<T>*>(source) + row.thread * (kElements / width);
#pragma unroll
  for (int i = 0; i < kElements / width; ++i) {
    const Vector<T> vector = row.active ? vectors[i] : Vector<T>{};
#pragma unroll
    for (int j = 0; j < width; ++j) x[width * i + j] = to_float(vector.element[j]);
  }
}

// Mean and variance in two passes over the registers.
__device__ void normalize(const PrologueArguments& p, const Row& row, float (&x)[kElements]) {
  float sum = 0.0f, squares = 0.0f;
#pragma unroll
  for (int e = 0; e < kElements; ++e) sum += x[e];  // an inactive thread holds zeros
  const float mean = reduce<Sum>(row, sum) / row.width;
#pragma unroll
  for (int e = 0; e < kElements; ++e) {
    x[e] -= mean;
    squares += row.active ? x[e] * x[e] : 0.0f;
  }
  const float deviation = sqrtf(reduce<Sum>(row, squares) / row.width + p.epsilon);
  if (!row.active) return;
#pragma unroll
  for (int e = 0; e < kElements; ++e) {
    x[e] = x[e] / deviation * p.norm_weight[row.element(e, 0)];
    if (p.norm_bias) x[e] += p.norm_bias[row.element(e, 0)];
  }
}

// Moves the row's values through shared memory: from elements `1 << from` apart to elements `1 << to` apart.
__device__ void rearrange(const Row& row, float (&x)[kElements], int from, int to) {
  synchronize_block();
  if (row.active) {
#pragma unroll
    for (int e = 0; e < kElements; ++e) row.values[padded(row.element(e, from))] = x[e];
  }
  synchronize_block();
  if (row.active) {
#pragma unroll
    for (int e = 0; e < kElements; ++e) x[e] = row.values[padded(row.element(e, to))];
  }
}

// Butterflies over bits first, first + 1, ... of the four bits of an element's number that this thread holds.
__device__ void butterflies(float (&x)[kElements], int first) {
#pragma unroll
  for (int bit = 0; bit < kElementBits; ++bit) {
    if (bit < first) continue;
#pragma unroll
    for (int e = 0; e < kElements; ++e) {
      if (e & (1 << bit)) continue;
      const float a = x[e], b = x[e | (1 << bit)];
      x[e] = a + b;
      x[e | (1 << bit)] = a - b;
    }
  }
}

// Signs and the normalised Walsh-Hadamard transform; returns the shift at which the result's elements are held.
__device__ int rotate(const PrologueArguments& p, const Row& row, float (&x)[kElements]) {
#pragma unroll
  for (int e = 0; e < kElements; ++e) x[e] *= row.active ? static_cast<float>(p.signs[row.element(e, 0)]) : 0.0f;
  int bits = 0;
  while ((1 << bits) < row.width) ++bits;
  butterflies(x, 0);
  int shift = 0;
  for (int done = kElementBits; done < bits; done += kElementBits) {
    const int next = done + kElementBits <= bits ? done : bits - kElementBits;
    rearrange(row, x, shift, next);
    butterflies(x, done - next);
    shift = next;
  }
#pragma unroll
  for (int e = 0; e < kElements; ++e) x[e] *= p.normalizer;
  return shift;
}

__device__ int round_code(float quotient, int top) {
  const float rounded = rintf(quotient);  // half to even
  if (!(rounded > -top - 1)) return -top - 1;
  return rounded < top ? static_cast<int>(rounded) : top;
}

// Codes go through shared memory as bytes, so that every thread stores 16 consecutive ones.
__device__ void store_codes(const PrologueArguments& p, const Row& row, int64_t index, const float (&x)[kElements],
                            float scale, int shift) {
  signed char* codes = reinterpret_cast<signed char*>(row.values);
  synchronize_block();
  if (row.active) {
#pragma unroll
    for (int e = 0; e < kElements; ++e) codes[row.element(e, shift)] = round_code(x[e] / scale, p.largest_code);
  }
  synchronize_block();
  if (!row.active) return;
  const int64_t slot = index * (row.width / kElements) + row.thread;
  const Vector<signed char> own = reinterpret_cast<const Vector<signed char>*>(codes)[row.thread];
  if (p.layout == kBytes) {
    static_cast<Vector<signed char>*>(p.codes)[slot] = own;
  } else if (p.layout == kPacked) {
    uint32_t nibbles[2] = {0, 0};
#pragma unroll
    for (int e = 0; e < kElements; ++e) nibbles[e / 8] |= static_cast<uint32_t>(own.element[e] & kPackedMask) << (kPackedBits * (e % 8));
    static_cast<Eight*>(p.codes)[slot] = {nibbles[0], nibbles[1]};
  } else {  // kEvenOdd: two threads share 32 codes, 16 even ones before 16 odd ones
    uint32_t even[2] = {0, 0}, odd[2] = {0, 0};
#pragma unroll
    for (int e = 0; e < kElements; e += 2) {
      even[e / 8] |= (own.element[e] & 0xFFu) << (8 * (e / 2 % 4));
      odd[e / 8] |= (own.element[e + 1] & 0xFFu) << (8 * (e / 2 % 4));
    }
    Eight* const pair = static_cast<Eight*>(p.codes) + slot / 2 * 4 + slot % 2;
    pair[0] = {even[0], even[1]};
    pair[2] = {odd[0], odd[1]};
  }
}

template <class T>
__global__ void __launch_bounds__(kLargestWidth / kElements) prologue_kernel(const PrologueArguments p) {
  Row row;
  row.width = static_cast<int>(p.k);
  row.threads = threads_per_row(p.k);
  row.thread = threadIdx.x % row.threads;
  const int rows_per_block = blockDim.x / row.threads, within = threadIdx.x / row.threads;
  const int64_t index = static_cast<int64_t>(blockIdx.x) * rows_per_block + within;
  row.active = index < p.m && row.thread * kElements < row.width;
  float* const scratch = reinterpret_cast<float*>(shared_memory());
  row.values = scratch + within * padded(row.width);
  row.partials = scratch + rows_per_block * padded(row.width) + within * (kLargestWidth / kElements / kWarp);

  float x[kElements];
  load(row, static_cast<const T*>(p.input) + (row.active ? index * p.k : 0), x);
  if (p.norm_weight) normalize(p, row, x);
  if (p.gelu) {
#pragma unroll
    for (int e = 0; e < kElements; ++e) x[e] = gelu(x[e]);
  }
  const int shift = p.signs ? rotate(p, row, x) : 0;

  float lowest = Maximum::neutral, highest = Maximum::neutral;  // of -x and of x
  if (row.active) {
#pragma unroll
    for (int e = 0; e < kElements; ++e) {
      if (p.smoothing) x[e] /= p.smoothing[row.element(e, shift)];
      lowest = Maximum::combine(lowest, -x[e]);
      highest = Maximum::combine(highest, x[e]);
    }
  }
  lowest = fabsf(reduce<Maximum>(row, lowest));
  highest = reduce<Maximum>(row, highest);
  if (p.clip) {
    lowest *= p.clip[0];
    highest *= p.clip[1];
  }
  float scale = Maximum::combine(lowest, highest) / p.largest_code;
  if (!(scale > 0.0f)) scale = 1.0f;
  if (row.active && row.thread == 0) p.scale[index] = scale;
  store_codes(p, row, index, x, scale, shift);
}

template <class T>
int launch_prologue(const PrologueArguments& p) {
  const int threads = threads_per_row(p.k);
  const int rows = threads < kSmallBlock ? kSmallBlock / threads : 1;
  const int64_t blocks = (p.m + rows - 1) / rows;
  if (blocks > INT32_MAX) return kInvalidArgument;
  const int partials = kLargestWidth / kElements / kWarp;
  const unsigned shared_bytes = rows * (padded(static_cast<int>(p.k)) + partials) * sizeof(float);
  return launch(prologue_kernel<T>, static_cast<unsigned>(blocks), threads * rows, shared_bytes,
                static_cast<Stream>(p.stream), p);
}

}  // namespace

extern "C" int quantvggt_prologue(const PrologueArguments* arguments) {
  const PrologueArguments& p = *arguments;
  if (p.m < 0 || p.k <= 0 || p.k > kLargestWidth || p.k % kElements) return kInvalidArgument;
  if (p.signs && (p.k & (p.k - 1))) return kInvalidArgument;
  if (p.layout < kPacked || p.layout > kEvenOdd) return kInvalidArgument;
  if (p.largest_code <= 0 || p.largest_code > (p.layout == kPacked ? kLargestPackedCode : kLargestWholeCode)) {
    return kInvalidArgument;
  }
  if (p.layout == kEvenOdd && p.k % (2 * kElements)) return kInvalidArgument;
  if (p.m == 0) return 0;
  switch (p.input_dtype) {
    case kFloat32:
      return launch_prologue<float>(p);
    case kFloat16:
      return launch_prologue<Half>(p);
    case kBFloat16:
      return launch_prologue<BFloat16>(p);
  }
  return kInvalidArgument;
}
