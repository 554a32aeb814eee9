// The C interface of the shared object. Every pointer is device memory of the caller; `stream` is a cudaStream_t.
// An entry starts kernels and returns at once: 0, a CUDA error, or kInvalidArgument. Mirrored by `library.py`.
#pragma once

#include <cstdint>

#include "../formats.h"

constexpr int kInvalidArgument = -1;

enum DType : int32_t { kFloat32 = 0, kFloat16 = 1, kBFloat16 = 2, kInt32 = 3 };

// How codes are stored and multiplied. Weights always have the artifact's form: low nibble = even k.
enum Scheme : int32_t {
  kW4A4 = 0,         // both packed, multiplied as 4 bits
  kW4A4Widened = 1,  // both packed, multiplied as 8 bits
  kW4A8 = 2,         // activations in the kEvenOdd layout, multiplied as 8 bits
  kW8A8 = 3,
};

// How the prologue stores a token's codes.
enum Layout : int32_t {
  kPacked = 0,   // kCodesToAByte to a byte, low nibble = even k
  kBytes = 1,    // one to a byte
  kEvenOdd = 2,  // one to a byte; of every 32 codes the 16 even ones first, then the 16 odd ones
};

// Tiles from this one on belong to `warpgroup_gemm.cu`: 128 channels x 128 tokens, then x 256.
constexpr int32_t kWarpgroupTile = 4;

struct GemmArguments {
  const void* activation;      // [M, K] codes
  const void* weight;          // [N, K] codes
  const float* token_scale;    // [M], null for kInt32
  const float* channel_scale;  // [N], null for kInt32
  const float* bias;           // [N] or null
  const float* layer_scale;    // [N] or null
  const void* residual;        // [M, N] of the output's type, or null
  void* output;                // [M, N]
  void* stream;
  int64_t m, n, k;
  int32_t scheme, tile, output_dtype;
};

// What follows a product whose sums are in memory: those of the first N of `pitch` channels.
struct EpilogueArguments {
  const void* sums;            // [M, pitch] whole numbers, of kInt32 or kFloat32; pitch is a multiple of 4
  const float* token_scale;    // [M]
  const float* channel_scale;  // [N]
  const float* bias;           // [N] or null
  const float* layer_scale;    // [N] or null
  const void* residual;        // [M, N] of the output's type, or null
  void* output;                // [M, N]
  void* stream;
  int64_t m, n, pitch;
  int32_t sums_dtype, output_dtype;
};

struct PrologueArguments {
  const void* input;         // [M, K], or [M, 2, K] where it is `gated`
  const float* norm_weight;  // [K] or null: no LayerNorm
  const float* norm_bias;    // [K] or null
  const int8_t* signs;       // [K] or null: no rotation
  const float* smoothing;    // [K] or null
  const float* clip;         // [2] or null
  void* codes;               // [M, K / 2] or [M, K]
  float* scale;              // [M]
  void* stream;
  int64_t m, k;
  float epsilon, normalizer;  // normalizer: K^-0.5
  int32_t input_dtype, gelu;
  int32_t gated;         // input is (a, b) of every token: what counts is silu(a) * b
  int32_t largest_code;  // that a token's extreme gets
  int32_t layout;
};

struct QkNormRopeArguments {
  const void* qkv;        // [batch, tokens, 3, heads, width]
  const float* q_weight;  // [width] or null: not normalised; so are the next three
  const float* q_bias;
  const float* k_weight;
  const float* k_bias;
  const float* cosines;  // [tokens, width] or null: not rotated
  const float* sines;
  void *q, *k;  // [batch, heads, tokens, width]
  void* stream;
  int64_t batch, tokens;
  float epsilon;
  int32_t heads, width, dtype;
};

extern "C" {
int quantvggt_gemm(const GemmArguments* arguments);
int quantvggt_epilogue(const EpilogueArguments* arguments);
int quantvggt_prologue(const PrologueArguments* arguments);
int quantvggt_qk_norm_rope(const QkNormRopeArguments* arguments);
const char* quantvggt_error(int error);
int64_t quantvggt_arguments_bytes(int structure);  // 0 gemm, 1 epilogue, 2 prologue, 3 qk-norm + rope
}
