// What crosses the border of the library: plain structures of pointers, mirrored by kernels/cpu/library.py.
// Every tensor is contiguous unless strides are given; optional ones are null.
#pragma once

#include <cstdint>

#include "../formats.h"

// Tokens x [rows, features] and what precedes the integer product (kernels/reference.py, quantize_rows).
struct Rows {
    const float* x;
    int64_t rows, features;
    const float *norm_weight, *norm_bias;  // [features]; LayerNorm where norm_weight is given
    const int8_t* signs;                   // [features] +1 or -1; rotation where given
    const float* base;                     // [order, order] non-trivial factor of the Hadamard matrix
    const float* smoothing;                // [features]
    const float* clip;                     // [2] gains of a token's lowest and highest value
    float norm_eps;
    float hadamard_scale;  // features^-1/2
    int32_t order;         // 1, 12, 20: features = order * 2^k
    int32_t gelu;
    int32_t gated;         // x is [rows, 2 * features], a and b of a token: what counts is silu(a) * b
    int32_t largest_code;  // of a token, for its extreme
};

// A stored weight and what follows the product: either y or accumulators is given, both [rows, outputs].
struct Product {
    const void* weight;  // uint8 [outputs, features / 2], packed, or int8 [outputs, features]
    int64_t outputs;
    const float *weight_scale, *bias, *layer_scale;  // [outputs]
    const float* residual;                           // [rows, outputs]
    float* y;
    int32_t* accumulators;
    int32_t codes_to_a_byte;
};

// x [batch, tokens, heads, width], with `stride` floats from a token to the next, to y [batch, heads, tokens, width].
struct Heads {
    const float* x;
    int64_t batch, tokens, heads, width, stride;
    const float *weight, *bias;  // [width]; LayerNorm where weight is given
    const float *cos, *sin;      // [positions, width]; rotation where given
    int64_t positions;           // after so many tokens they begin anew
    float* y;
    float norm_eps;
};

// q [batch, heads, queries, width], k and v [batch, heads, keys, width], with strides of the first three axes;
// y [batch, queries, heads, width]. `packed` [batch, heads, packed_bytes(keys, width)], aligned to a cache line, is what
// k and v are made into: an instruction set reads only what it packed itself.
struct Attention {
    const float *q, *k, *v;
    int64_t batch, heads, queries, keys, width;
    int64_t q_stride[3], k_stride[3], v_stride[3];
    float* y;
    char* packed;
};

// Tiles of a map [height, width, channels]: `rows` rows of them from `first` on, with products or their factors
// [36, rows * tiles across, channels].
struct Tiles {
    float *map, *products;
    const float* bias;  // [channels]
    int64_t height, width, channels, first, rows;
};

// The operators of one instruction set.
struct Kernels {
    void (*quantize_rows)(const Rows&, int8_t* codes, float* scale, int threads);
    void (*integer_matmul)(const int8_t* codes, const Rows& shape, const Product&, int threads);
    void (*linear)(const Rows&, const Product&, int threads);
    void (*norm_rope)(const Heads&, int threads);
    int64_t (*packed_bytes)(int64_t keys, int64_t width);
    void (*pack_keys_values)(const Attention&, int threads);
    void (*packed_attention)(const Attention&, int threads);
    void (*int8_attention)(const Attention&, int threads);  // both in turn
    void (*tile_factors)(const Tiles&, int threads);
    void (*tile_outputs)(const Tiles&, int threads);
};

extern const Kernels avx2_kernels, avx_vnni_kernels, avx512_kernels, amx_kernels, neon_kernels;
