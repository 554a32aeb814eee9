// Widths of codes in native code. kernels/formats.py states them and gives them to the compiler.
#pragma once

#include <cstdint>

constexpr int kByteBits = 8;
constexpr int kCodesToAByte = QUANTVGGT_CODES_TO_A_BYTE;  // of a packed weight, low bits first
constexpr int kPackedBits = kByteBits / kCodesToAByte;    // of one of them
constexpr int32_t kPackedMask = (1 << kPackedBits) - 1;

// Of codes that share a byte and of those that have one to themselves; the lowest is -largest - 1.
constexpr int32_t kLargestPackedCode = QUANTVGGT_LARGEST_PACKED_CODE;
constexpr int32_t kLargestWholeCode = QUANTVGGT_LARGEST_WHOLE_CODE;

constexpr int kAttentionBits = QUANTVGGT_ATTENTION_BITS;  // of queries, keys and values
constexpr int kProbabilityBits = kAttentionBits - 1;      // of attention weights, never negative
constexpr int32_t kLargestAttentionCode = QUANTVGGT_LARGEST_ATTENTION_CODE;
constexpr float kLog2OfLargestAttentionCode = QUANTVGGT_LOG2_LARGEST_ATTENTION_CODE;

// Nibbles are unpacked by shifts and masks, and sums are as wide as the largest products need.
static_assert(kCodesToAByte == 2 && kAttentionBits == kByteBits,
              "there is no native code for these widths");
