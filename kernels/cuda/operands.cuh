// What one step of the product multiplies, for every scheme.
//
// A step takes 32 bytes of weight storage from each of 8 output channels and the same codes from each of 16 tokens.
// The fragments of mma.m16n8k64 (4 bits) and mma.m16n8k32 (8 bits) are the same bytes: lane l holds words of 4 bytes
// at byte 4 * (l % 4), of rows l / 4 and l / 4 + 8 (PTX ISA, "Matrix Fragments for mma.m16n8k64" and "...k32").
//
// Where 4-bit storage is multiplied as 8 bits, each word is split in registers into its low and its high nibbles, both
// moved to the top of their byte: codes times 16. The products are 16 or 256 times too large, which the epilogue shifts
// out: exact as long as the accumulator fits, |code| |code| K 2^shift < 2^31, which is the same K for every scheme.
#pragma once

#include <device.cuh>

#include "arguments.h"

constexpr int64_t kLargestDepth = (int64_t{1} << (31 - 2 * (kByteBits - 1))) - 1;
constexpr int kWidening = kByteBits - kPackedBits;  // how far a code moves up when its nibble becomes a byte

__device__ inline uint32_t low_nibbles(uint32_t word) { return (word << kWidening) & 0xF0F0F0F0u; }
__device__ inline uint32_t high_nibbles(uint32_t word) { return word & 0xF0F0F0F0u; }

// Members of an Operands<scheme>:
//   activation_loads  ldmatrix instructions for the activations of a step, 32 bytes of each token per load
//   shift             how far the epilogue shifts the accumulators to the right
//   supported         whether the architecture being compiled for multiplies this way natively
//   expand_*          from the words that ldmatrix delivers to those that multiply takes
template <int scheme>
struct Operands;

template <>
struct Operands<kW4A4> {
  static constexpr int activation_loads = 1, activation_words = 4, weight_words = 2, shift = 0;
  static constexpr int activation_bits = kPackedBits, weight_bits = kPackedBits;
  static constexpr bool supported = kHasInt4Mma;

  static __device__ void expand_activation(uint32_t* out, const uint32_t (&word)[4]) {
    for (int i = 0; i < 4; ++i) out[i] = word[i];
  }
  static __device__ void expand_weight(uint32_t* out, uint32_t first, uint32_t second) {
    out[0] = first;
    out[1] = second;
  }
  static __device__ void multiply(int32_t (&d)[4], const uint32_t* a, const uint32_t* w) { multiply_int4(d, a, w); }
};

template <>
struct Operands<kW4A4Widened> {
  static constexpr int activation_loads = 1, activation_words = 8, weight_words = 4, shift = 2 * kWidening;
  static constexpr int activation_bits = kPackedBits, weight_bits = kPackedBits;
  static constexpr bool supported = kWidensInt4;

  // Even codes become the first half of a product's 32 and odd codes the second half, on both sides alike.
  static __device__ void expand_activation(uint32_t* out, const uint32_t (&word)[4]) {
    for (int half = 0; half < 2; ++half) {
      for (int row = 0; row < 2; ++row) {
        out[4 * half + row] = low_nibbles(word[2 * half + row]);
        out[4 * half + row + 2] = high_nibbles(word[2 * half + row]);
      }
    }
  }
  static __device__ void expand_weight(uint32_t* out, uint32_t first, uint32_t second) {
    out[0] = low_nibbles(first);
    out[1] = high_nibbles(first);
    out[2] = low_nibbles(second);
    out[3] = high_nibbles(second);
  }
  static __device__ void multiply(int32_t (&d)[4], const uint32_t* a, const uint32_t* w) {
    multiply_int8(d, a, w);
    multiply_int8(d, a + 4, w + 2);
  }
};

template <>
struct Operands<kW4A8> {
  static constexpr int activation_loads = 2, activation_words = 8, weight_words = 4, shift = kWidening;
  static constexpr int activation_bits = kByteBits, weight_bits = kPackedBits;
  static constexpr bool supported = true;

  static __device__ void expand_activation(uint32_t* out, const uint32_t (&word)[4]) {
    for (int i = 0; i < 4; ++i) out[i] = word[i];
  }
  // Activations come in the kEvenOdd layout: 16 even codes meet the low nibbles, then 16 odd ones the high nibbles.
  static __device__ void expand_weight(uint32_t* out, uint32_t first, uint32_t second) {
    out[0] = low_nibbles(first);
    out[1] = high_nibbles(first);
    out[2] = low_nibbles(second);
    out[3] = high_nibbles(second);
  }
  static __device__ void multiply(int32_t (&d)[4], const uint32_t* a, const uint32_t* w) {
    multiply_int8(d, a, w);
    multiply_int8(d, a + 4, w + 2);
  }
};

template <>
struct Operands<kW8A8> {
  static constexpr int activation_loads = 1, activation_words = 4, weight_words = 2, shift = 0;
  static constexpr int activation_bits = kByteBits, weight_bits = kByteBits;
  static constexpr bool supported = true;

  static __device__ void expand_activation(uint32_t* out, const uint32_t (&word)[4]) {
    for (int i = 0; i < 4; ++i) out[i] = word[i];
  }
  static __device__ void expand_weight(uint32_t* out, uint32_t first, uint32_t second) {
    out[0] = first;
    out[1] = second;
  }
  static __device__ void multiply(int32_t (&d)[4], const uint32_t* a, const uint32_t* w) { multiply_int8(d, a, w); }
};
