// Codes of a quantised layer's input in one pass: gate, LayerNorm or GELU, rotation, smoothing, per-token scale,
// rounding, packing. One group of threads owns a row, each thread 16 of its elements, all in float32 and in the order of
// `reference.py`, so that a row without gate, LayerNorm or GELU gets the definition's very codes.
//
// Widths that are powers of two have kernels of their own: every index but the thread's is known to the compiler then.
// The others are not rotated, and share one kernel.
#include <device.cuh>

#include "arguments.h"
#include "vectors.cuh"

namespace {

constexpr int kElements = 16;  // of a row, held by one thread
constexpr int kElementBits = 4;
constexpr int kWarp = 32;
constexpr int kLargestWidth = 4096;
constexpr int kBlocks = 4;  // of the largest width on a multiprocessor; with 64 registers a thread none is spilled
constexpr int kSmallBlock = 128;  // threads; narrow rows share a block
constexpr int kWords = kElements / 4;
constexpr float kSmall = 0x1p-60f, kLarge = 0x1p60f;  // between them a quotient's corrections are exact

// What the warps of a row tell each other, each in a place of its own; see `reduce`.
enum Slot { kSum = 0, kSquares = 1, kExtremes = 2, kSlots = 4 };
constexpr int kPartials = kSlots * kLargestWidth / kElements / kWarp;

// Rows in shared memory are padded so that none of the access patterns below meets a bank twice.
__host__ __device__ constexpr int padded(int element) { return element + element / 32 * 4 + element / 256 * 16; }

__host__ __device__ constexpr int threads_per_row(int64_t width) {
  int threads = 1;
  while (threads * kElements < width) threads *= 2;
  return threads;
}

__device__ inline float gelu(float x) { return 0.5f * x * (1.0f + erff(x * 0.70710678118654752f)); }
__device__ inline float silu(float x) { return x / (1.0f + expf(-x)); }

// The row that this thread works on, its share of it, and the row's scratch in shared memory.
struct Row {
  int width, threads, thread;
  bool active;      // false: beyond the last row or the last element; takes part in barriers only
  float* values;    // padded(width) floats
  float* partials;  // kPartials floats

  // The first of this thread's elements when its 16 are `1 << shift` apart. The others have more bits, never other
  // ones: element e is first + (e << shift), and its place padded(first) + padded(e << shift).
  template <int shift>
  __device__ int first() const {
    return (thread >> shift << (shift + kElementBits)) | (thread & ((1 << shift) - 1));
  }

  __device__ void synchronize() const { threads <= kWarp ? synchronize_warp() : synchronize_block(); }
};

struct Sum {
  __device__ static float combine(int, float a, float b) { return a + b; }
};
struct Extremes {  // the lowest value, then the highest
  __device__ static float combine(int place, float a, float b) { return place == 0 ? fminf(a, b) : fmaxf(a, b); }
};

// Combines values of every thread of the row; all threads of the block must call it. A slot is used once, so that
// nobody needs to wait before it is written.
template <class Operation, int slot, int count>
__device__ void reduce(const Row& row, float (&value)[count]) {
  const int lanes = row.threads < kWarp ? row.threads : kWarp;
#pragma unroll
  for (int mask = 1; mask < lanes; mask *= 2) {
#pragma unroll
    for (int i = 0; i < count; ++i) value[i] = Operation::combine(i, value[i], shuffle_xor(value[i], mask));
  }
  if (row.threads <= kWarp) return;
  const int warps = row.threads / kWarp;
  float* const partials = row.partials + slot * warps;
  if (row.thread % kWarp == 0) {
#pragma unroll
    for (int i = 0; i < count; ++i) partials[i * warps + row.thread / kWarp] = value[i];
  }
  synchronize_block();
#pragma unroll
  for (int i = 0; i < count; ++i) {
    value[i] = partials[i * warps];
#pragma unroll
    for (int warp = 1; warp < warps; ++warp) value[i] = Operation::combine(i, value[i], partials[i * warps + warp]);
  }
}

// Divides by one number, rounded as IEEE division rounds. Where nothing can overflow or vanish (`ordinary`) that takes
// 5 instructions of the machine instead of 12: two corrections of the product with the rounded reciprocal, of which the
// second is exact (Markstein, "Computation of elementary functions on the IBM RISC System/6000 processor", 1990).
__device__ void divide(float (&x)[kElements], float divisor, bool ordinary) {
  if (!ordinary) {
#pragma unroll
    for (int e = 0; e < kElements; ++e) x[e] /= divisor;
    return;
  }
  const float reciprocal = 1.0f / divisor;
#pragma unroll
  for (int e = 0; e < kElements; ++e) {
    float quotient = x[e] * reciprocal;
#pragma unroll
    for (int correction = 0; correction < 2; ++correction) {
      quotient = fmaf(fmaf(-quotient, divisor, x[e]), reciprocal, quotient);
    }
    x[e] = quotient;
  }
}

// silu(x) times the values at `source`.
template <class T>
__device__ void gate(const T* source, float (&x)[kElements]) {
  float value[kElements];
  load_values(source, value);
#pragma unroll
  for (int e = 0; e < kElements; ++e) x[e] = silu(x[e]) * value[e];
}

// Parameters of this thread's elements when these are `1 << shift` apart.
template <int shift>
__device__ void load_parameters(const Row& row, const float* source, float (&y)[kElements]) {
  if constexpr (shift == 0) {
    load_values(source + row.first<0>(), y);
  } else {
    const float* const own = source + row.first<shift>();
#pragma unroll
    for (int e = 0; e < kElements; ++e) y[e] = own[e << shift];
  }
}

// Mean and variance in two passes over the registers. `everyone`: no thread lies beyond the row's last element.
template <bool everyone>
__device__ void normalize(const PrologueArguments& p, const Row& row, float (&x)[kElements]) {
  float sum[1] = {0.0f}, squares[1] = {0.0f};
#pragma unroll
  for (int e = 0; e < kElements; ++e) sum[0] += x[e];  // an inactive thread holds zeros
  reduce<Sum, kSum>(row, sum);
  const float mean = sum[0] / row.width;
#pragma unroll
  for (int e = 0; e < kElements; ++e) {
    x[e] -= mean;
    squares[0] += everyone || row.active ? x[e] * x[e] : 0.0f;
  }
  reduce<Sum, kSquares>(row, squares);
  const float deviation = sqrtf(squares[0] / row.width + p.epsilon);
  if (!row.active) return;
  divide(x, deviation, deviation > kSmall && deviation < kLarge);  // no |x| is beyond sqrt(width) deviations
  float parameter[kElements];
  load_parameters<0>(row, p.norm_weight, parameter);
#pragma unroll
  for (int e = 0; e < kElements; ++e) x[e] *= parameter[e];
  if (!p.norm_bias) return;
  load_parameters<0>(row, p.norm_bias, parameter);
#pragma unroll
  for (int e = 0; e < kElements; ++e) x[e] += parameter[e];
}

// Moves the row's values through shared memory: from elements `1 << from` apart to elements `1 << to` apart. A thread
// stores where it loaded from the last time, so that only the values' arrival needs to be waited for.
template <int from, int to>
__device__ void rearrange(const Row& row, float (&x)[kElements]) {
  if (row.active) {
    float* const own = row.values + padded(row.first<from>());
    if constexpr (from == 0) {
      store_values(own, x);
    } else {
#pragma unroll
      for (int e = 0; e < kElements; ++e) own[padded(e << from)] = x[e];
    }
  }
  row.synchronize();
  if (row.active) {
    const float* const own = row.values + padded(row.first<to>());
#pragma unroll
    for (int e = 0; e < kElements; ++e) x[e] = own[padded(e << to)];
  }
}

// Butterflies over bits first, first + 1, ... of the four bits of an element's number that this thread holds.
template <int first>
__device__ void butterflies(float (&x)[kElements]) {
#pragma unroll
  for (int bit = first; bit < kElementBits; ++bit) {
#pragma unroll
    for (int e = 0; e < kElements; ++e) {
      if (e & (1 << bit)) continue;
      const float a = x[e], b = x[e | (1 << bit)];
      x[e] = a + b;
      x[e | (1 << bit)] = a - b;
    }
  }
}

// The butterflies over bits `done` and up of `bits`, of elements that are held `1 << shift` apart; they end up as far
// apart as they can.
template <int bits, int done, int shift>
__device__ void transform(const Row& row, float (&x)[kElements]) {
  if constexpr (done < bits) {
    constexpr int next = done + kElementBits <= bits ? done : bits - kElementBits;
    rearrange<shift, next>(row, x);
    butterflies<done - next>(x);
    transform<bits, done + kElementBits, next>(row, x);
  }
}

// Signs and the normalised Walsh-Hadamard transform.
template <int bits>
__device__ void rotate(const PrologueArguments& p, const Row& row, float (&x)[kElements]) {
  if (row.active) {
    const Vector<uint32_t> signs = *reinterpret_cast<const Vector<uint32_t>*>(p.signs + row.first<0>());
#pragma unroll
    for (int e = 0; e < kElements; ++e) x[e] = with_sign_of_byte(x[e], signs.element[e / 4], e % 4);
  }
  butterflies<0>(x);
  transform<bits, kElementBits, 0>(row, x);
#pragma unroll
  for (int e = 0; e < kElements; ++e) x[e] *= p.normalizer;
}

__device__ inline int round_code(float quotient, int top) {  // no number gives the lowest code
  return round_half_even(fminf(fmaxf(quotient, static_cast<float>(-top - 1)), static_cast<float>(top)));
}

struct alignas(8) HalfVector {
  uint32_t low, high;
};

// 16 consecutive codes of this thread, where the layout wants them.
__device__ void store_codes(const PrologueArguments& p, const Row& row, int64_t index, const Vector<uint32_t>& own) {
  const int64_t slot = index * (row.width / kElements) + row.thread;
  const uint32_t* const word = own.element;
  Vector<uint32_t>* const whole = static_cast<Vector<uint32_t>*>(p.codes);
  HalfVector* const halves = static_cast<HalfVector*>(p.codes);
  if (p.layout == kBytes) {
    whole[slot] = own;
  } else if (p.layout == kPacked) {
    uint32_t pairs[kWords];
#pragma unroll
    for (int i = 0; i < kWords; ++i) {
      const uint32_t nibbles = word[i] & 0x0F0F0F0Fu;
      pairs[i] = nibbles | nibbles >> kPackedBits;  // in bytes 0 and 2
    }
    halves[slot] = {pick_bytes(pairs[0], pairs[1], 0x6420), pick_bytes(pairs[2], pairs[3], 0x6420)};
  } else {  // kEvenOdd: two threads share 32 codes, 16 even ones before 16 odd ones
    HalfVector* const pair = halves + slot / 2 * 4 + slot % 2;
    pair[0] = {pick_bytes(word[0], word[1], 0x6420), pick_bytes(word[2], word[3], 0x6420)};
    pair[2] = {pick_bytes(word[0], word[1], 0x7531), pick_bytes(word[2], word[3], 0x7531)};
  }
}

// Smoothing, the token's scale, and its codes, of elements that are held `1 << shift` apart.
template <int shift>
__device__ void quantize(const PrologueArguments& p, const Row& row, int64_t index, float (&x)[kElements]) {
  float extremes[2] = {3.402823466e+38f, -3.402823466e+38f};
  if (row.active) {
    if (p.smoothing) {
      float divisor[kElements];
      load_parameters<shift>(row, p.smoothing, divisor);
#pragma unroll
      for (int e = 0; e < kElements; ++e) x[e] /= divisor[e];
    }
#pragma unroll
    for (int e = 0; e < kElements; ++e) {
      extremes[0] = fminf(extremes[0], x[e]);
      extremes[1] = fmaxf(extremes[1], x[e]);
    }
  }
  reduce<Extremes, kExtremes>(row, extremes);
  float lowest = fabsf(extremes[0]), highest = extremes[1];
  if (p.clip) {
    lowest *= p.clip[0];
    highest *= p.clip[1];
  }
  float scale = fmaxf(lowest, highest) / p.largest_code;
  if (!(scale > 0.0f)) scale = 1.0f;
  if (row.active && row.thread == 0) p.scale[index] = scale;
  divide(x, scale, scale > kSmall && scale < kLarge && fmaxf(fabsf(extremes[0]), fabsf(extremes[1])) < kLarge);

  Vector<uint32_t> own;
  if constexpr (shift == 0) {
#pragma unroll
    for (int i = 0; i < kWords; ++i) {
      own.element[i] = 0;
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        own.element[i] |= (round_code(x[4 * i + j], p.largest_code) & 0xFFu) << (8 * j);
      }
    }
  } else {  // codes go through shared memory as bytes, so that every thread gets 16 consecutive ones
    signed char* const bytes = reinterpret_cast<signed char*>(row.values);
    if (row.threads <= kWarp) row.synchronize();  // all are done with the values; else `reduce` saw to it
    if (row.active) {
      signed char* const strided = bytes + row.first<shift>();
#pragma unroll
      for (int e = 0; e < kElements; ++e) {
        strided[e << shift] = static_cast<signed char>(round_code(x[e], p.largest_code));
      }
    }
    row.synchronize();
    if (row.active) own = reinterpret_cast<const Vector<uint32_t>*>(bytes)[row.thread];
  }
  if (row.active) store_codes(p, row, index, own);
}

// `log_width`: the logarithm to base 2 of the row's width if that is a power of two, else 0.
template <class T, int log_width>
__global__ void __launch_bounds__(kLargestWidth / kElements, kBlocks) prologue_kernel(const PrologueArguments p) {
  Row row;
  row.width = log_width > 0 ? 1 << log_width : static_cast<int>(p.k);
  row.threads = threads_per_row(row.width);
  row.thread = threadIdx.x % row.threads;
  const int rows_per_block = blockDim.x / row.threads, within = threadIdx.x / row.threads;
  const int64_t index = static_cast<int64_t>(blockIdx.x) * rows_per_block + within;
  row.active = index < p.m && row.thread * kElements < row.width;
  float* const scratch = reinterpret_cast<float*>(shared_memory()) + within * (padded(row.width) + kPartials);
  row.values = scratch;
  row.partials = scratch + padded(row.width);

  float x[kElements] = {};
  if (row.active) {
    const T* const own = static_cast<const T*>(p.input) + index * row.width * (p.gated ? 2 : 1) + row.first<0>();
    load_values(own, x);
    if (p.gated) gate(own + row.width, x);
  }
  if (p.norm_weight) normalize<(log_width > 0)>(p, row, x);
  if (p.gelu) {
#pragma unroll
    for (int e = 0; e < kElements; ++e) x[e] = gelu(x[e]);
  }
  if constexpr (log_width > 0) {
    if (p.signs) {
      rotate<log_width>(p, row, x);
      quantize<log_width - kElementBits>(p, row, index, x);
      return;
    }
  }
  quantize<0>(p, row, index, x);
}

template <class T, int log_width>
int launch_width(const PrologueArguments& p) {
  const int threads = threads_per_row(p.k);
  const int rows = threads < kSmallBlock ? kSmallBlock / threads : 1;
  const int64_t blocks = (p.m + rows - 1) / rows;
  if (blocks > INT32_MAX) return kInvalidArgument;
  const unsigned shared_bytes = rows * (padded(static_cast<int>(p.k)) + kPartials) * sizeof(float);
  return launch(prologue_kernel<T, log_width>, static_cast<unsigned>(blocks), threads * rows, shared_bytes,
                static_cast<Stream>(p.stream), p);
}

template <class T>
int launch_prologue(const PrologueArguments& p) {
  switch (p.k) {
    case 32:
      return launch_width<T, 5>(p);
    case 64:
      return launch_width<T, 6>(p);
    case 128:
      return launch_width<T, 7>(p);
    case 256:
      return launch_width<T, 8>(p);
    case 512:
      return launch_width<T, 9>(p);
    case 1024:
      return launch_width<T, 10>(p);
    case 2048:
      return launch_width<T, 11>(p);
    case 4096:
      return launch_width<T, 12>(p);
  }
  return launch_width<T, 0>(p);
}

}  // namespace

extern "C" int quantvggt_prologue(const PrologueArguments* arguments) {
  const PrologueArguments& p = *arguments;
  if (p.m < 0 || p.k <= 0 || p.k > kLargestWidth || p.k % kElements) return kInvalidArgument;
  if (p.signs && (p.k & (p.k - 1) || p.k < 2 * kElements)) return kInvalidArgument;
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
