// Attention on 8-bit codes, one block of 64 keys after the other, with a running maximum (Milakov and Gimelshein, 2018;
// Dao et al., "FlashAttention", 2022). kernels/reference.py, int8_attention, is the definition.
//
// Scores are computed with a key per row and a query per column, so that a vector holds as many queries: softmax then
// needs no sum or maximum across a vector, and four rows of codes, byte beside byte, are operands of the second product.
#pragma once

#include "linear.h"

namespace {

constexpr int64_t kKeys = 64;             // that share one scale of their weights: the depth of a tile
constexpr int64_t kQueriesPerTask = 128;  // which amortise reading the keys
constexpr int64_t kLargestWidth = 128;
constexpr int kWeightBits = 7;                      // of attention, whose codes are 0 .. 127
constexpr float kLogOfLargestCode = 6.988684687f;  // log2 127

// One head's operands: keys as tiles [keys / 16][width / 64], values transposed as tiles [keys / 64][width / 16].
struct KeysAndValues {
    int8_t *keys, *values;
    float *key_scale, *value_scale;
    int32_t* key_offset;  // what an unsigned operand for the queries adds to a key's scores

    static int64_t padded_keys(const Attention& a) { return round_up(a.keys, kKeys); }
    static int64_t key_bytes(const Attention& a) { return padded_keys(a) * round_up(a.width, kTileDepth); }
    static int64_t value_bytes(const Attention& a) { return padded_keys(a) * round_up(a.width, kBlock); }

    static int64_t bytes(const Attention& a) {
        return round_up(key_bytes(a) + value_bytes(a) + 8 * padded_keys(a) + 4 * kLargestWidth, 64);
    }

    KeysAndValues(const Attention& a, char* memory) {
        keys = reinterpret_cast<int8_t*>(memory);
        values = keys + key_bytes(a);
        key_scale = reinterpret_cast<float*>(values + value_bytes(a));
        key_offset = reinterpret_cast<int32_t*>(key_scale + padded_keys(a));
        value_scale = reinterpret_cast<float*>(key_offset + padded_keys(a));
    }
};

inline const float* first_token(const float* x, const int64_t* stride, const Attention& a, int64_t head) {
    return x + head / a.heads * stride[0] + head % a.heads * stride[1];
}

// Codes of a row of `padded` floats with a scale of its own, 64 codes at a time to codes, codes + chunk_stride, ...
inline float quantize_vector(const float* row, int64_t padded, int8_t* codes, int64_t chunk_stride, int32_t* code_sum) {
    Vector top = {};
    for (int64_t i = 0; i < padded; i += kLanes) top = maximum(top, absolute(load(row + i)));
    const float extreme = highest(top), scale = extreme > 0 ? extreme / 127 : 1;
    const Vector inverse = broadcast(1 / scale);
    Integers total = {};
    for (int64_t i = 0; i < padded; i += kTileDepth, codes += chunk_stride) {
        Integers chunk[kTileDepth / kLanes];
        for (int64_t j = 0; j < kTileDepth / kLanes; ++j) {
            chunk[j] = round_to_integer(load(row + i + j * kLanes) * inverse);
            total += chunk[j];
        }
        store_codes(codes, chunk);
    }
    *code_sum = int32_t(sum(to_float(total)));
    return scale;
}

template <class Isa>
inline void prepare_keys(const Attention& a, int64_t head, const KeysAndValues& operands) {
    const int64_t padded = round_up(a.width, kTileDepth), tile_row = padded / kTileDepth * kTileBytes;
    const float* keys = first_token(a.k, a.k_stride, a, head);
    alignas(64) float mean[kLargestWidth] = {}, row[kLargestWidth] = {};
    for (int64_t i = 0; i < a.keys; ++i)
        for (int64_t d = 0; d < a.width; ++d) mean[d] += keys[i * a.k_stride[2] + d];
    for (int64_t d = 0; d < a.width; ++d) mean[d] /= float(a.keys);
    for (int64_t i = 0; i < a.keys; ++i) {
        for (int64_t d = 0; d < a.width; ++d) row[d] = keys[i * a.k_stride[2] + d] - mean[d];
        operands.key_scale[i] =
            quantize_vector(row, padded, operands.keys + i / kTile * tile_row + i % kTile * kTileDepth, kTileBytes,
                            operands.key_offset + i);
        operands.key_offset[i] *= Isa::offset(8);
    }
}

inline void prepare_values(const Attention& a, int64_t head, const KeysAndValues& operands) {
    const float* values = first_token(a.v, a.v_stride, a, head);
    alignas(64) float extreme[kLargestWidth] = {}, inverse[kLargestWidth];
    for (int64_t i = 0; i < a.keys; ++i)
        for (int64_t d = 0; d < a.width; ++d) {
            const float magnitude = __builtin_fabsf(values[i * a.v_stride[2] + d]);
            extreme[d] = magnitude > extreme[d] ? magnitude : extreme[d];
        }
    for (int64_t d = 0; d < kLargestWidth; ++d) {
        operands.value_scale[d] = extreme[d] > 0 ? extreme[d] / 127 : 1;
        inverse[d] = 1 / operands.value_scale[d];
    }
    // Four keys to a word, then words are transposed like a weight's: a channel's 64 codes come to lie together.
    const int64_t padded = round_up(a.width, kBlock);
    alignas(64) float rows[4][kLargestWidth] = {};
    alignas(64) int32_t words[kLargestWidth / kTile][kTile][kTile];
    int8_t* out = operands.values;
    for (int64_t first = 0; first < a.keys; first += kKeys) {
        for (int64_t i = 0; i < kKeys; i += 4) {
            for (int64_t j = 0; j < 4; ++j)
                if (first + i + j < a.keys)
                    std::memcpy(rows[j], values + (first + i + j) * a.v_stride[2], size_t(a.width) * sizeof(float));
                else
                    std::memset(rows[j], 0, sizeof rows[j]);
            for (int64_t d = 0; d < padded; d += kLanes) {
                const auto code = [&](int j) { return round_to_integer(load(rows[j] + d) * load(inverse + d)); };
                store(&words[d / kTile][i / 4][d % kTile],
                      (code(0) & 255) | (code(1) & 255) << 8 | (code(2) & 255) << 16 | code(3) << 24);
            }
        }
        for (int64_t d = 0; d < padded; d += kTile, out += kTileBytes)
            transpose_tile(reinterpret_cast<const int8_t(*)[kTileDepth]>(words[d / kTile]), 0,
                           reinterpret_cast<uint8_t*>(out));
    }
}

// What 32 queries have gathered so far, a query per column.
struct Gathered {
    alignas(64) float mixed[kLargestWidth][kBlock] = {};
    alignas(64) float highest[kBlock], total[kBlock] = {};

    Gathered() {
        for (float& value : highest) value = -__builtin_inff();
    }
};

// Weights of one block of keys for a vector of queries, from scores [64][32] that `scale` makes powers of two. Leaves
// the codes as operands in `panel`; returns the gain of this block and the shrinking of what was gathered before.
template <class Isa>
inline void weigh(int32_t* scores, const float* key_scale, const int32_t* key_offset, int64_t keys, Vector scale,
                  float* highest, float* total, uint8_t* panel, float* gain, float* shrink) {
    const Vector least = broadcast(-__builtin_inff());
    Vector tops[kUnrolled] = {least, least, least, least};
    const auto enter = [&](int64_t i, int chain) {
        Integers sums = load(scores + i * kBlock);
        if (Isa::offset(8)) sums -= key_offset[i];
        const Vector v = to_float(sums) * key_scale[i];
        store(reinterpret_cast<float*>(scores + i * kBlock), v);
        tops[chain] = maximum(tops[chain], v);
    };
    int64_t entered = 0;
    for (; entered + kUnrolled <= keys; entered += kUnrolled)
        for (int chain = 0; chain < kUnrolled; ++chain) enter(entered + chain, chain);
    for (; entered < keys; ++entered) enter(entered, 0);
    for (int64_t i = keys; i < kKeys; ++i) store(reinterpret_cast<float*>(scores + i * kBlock), least);
    const Vector top = maximum(maximum(tops[0], tops[1]), maximum(tops[2], tops[3]));

    Integers code_total = {};
    for (int64_t i = 0; i < kKeys; i += 4, panel += 4 * kTile) {
        Integers quad = {};
#pragma GCC unroll 4
        for (int64_t j = 0; j < 4; ++j) {
            const Vector v = load(reinterpret_cast<float*>(scores + (i + j) * kBlock));
            const Integers code = round_to_integer(power_of_two(fma(v - top, scale, broadcast(kLogOfLargestCode))));
            code_total += code;
            quad |= code << int(8 * j);
        }
        std::memcpy(panel, &quad, sizeof quad);
    }
    const Vector before = load(highest), now = top * scale, after = maximum(before, now);
    const Vector block_gain = power_of_two(now - after), old_gain = power_of_two(before - after);
    store(highest, after);
    store(total, load(total) * old_gain + to_float(code_total) * block_gain);
    store(gain, block_gain);
    store(shrink, old_gain);
}

// 32 queries against one head.
template <class Isa>
inline void attend(const Attention& a, int64_t head, int64_t first, const KeysAndValues& operands) {
    const int64_t padded = round_up(a.width, kTileDepth), tiles = padded / kTileDepth, depth = tiles * kTileBytes;
    const int64_t channels = round_up(a.width, kBlock);
    const int64_t count = a.queries - first < kBlock ? a.queries - first : kBlock;
    const float softmax_scale = 1.0f / __builtin_sqrtf(float(a.width));

    alignas(64) uint8_t queries[2 * 2 * kBlock * kLargestWidth], weights[kBlock * kTileDepth];
    alignas(64) int8_t codes[kTile][kLargestWidth], part[kTile][kTileDepth];
    alignas(64) float row[kLargestWidth] = {}, query_scale[kBlock], gain[kBlock], shrink[kBlock];
    alignas(64) int32_t scores[kKeys * kBlock], products[kLargestWidth * kBlock];
    const float* tokens = first_token(a.q, a.q_stride, a, head) + first * a.q_stride[2];
    int32_t unused;
    for (int64_t i = 0; i < kBlock; i += kTile) {
        for (int64_t j = 0; j < kTile; ++j) {
            query_scale[i + j] = 1;
            std::memset(codes[j], 0, kLargestWidth);
            if (i + j >= count) continue;
            for (int64_t d = 0; d < a.width; ++d) row[d] = tokens[(i + j) * a.q_stride[2] + d] * softmax_scale;
            query_scale[i + j] = kLog2E * quantize_vector(row, padded, codes[j], kTileDepth, &unused);
        }
        for (int64_t t = 0; t < tiles; ++t) {
            for (int64_t j = 0; j < kTile; ++j) std::memcpy(part[j], codes[j] + t * kTileDepth, kTileDepth);
            Isa::pack(part, 8, queries + (i / kTile * tiles * Isa::panels(8) + t) * kTileBytes, depth);
        }
    }

    Gathered gathered;
    for (int64_t key = 0; key < a.keys; key += kKeys) {
        const int64_t keys = a.keys - key < kKeys ? a.keys - key : kKeys;
        for (int64_t i = 0; i < keys; i += kBlock)
            Isa::block(operands.keys + (key + i) / kTile * depth, queries, tiles, keys - i < kBlock ? keys - i : kBlock,
                       8, 8, scores + i * kBlock, kBlock);
        for (int64_t q = 0; q < kBlock; q += kLanes)
            weigh<Isa>(scores + q, operands.key_scale + key, operands.key_offset + key, keys, load(query_scale + q),
                       gathered.highest + q, gathered.total + q, weights + q / kTile * kTileBytes + q % kTile * 4,
                       gain + q, shrink + q);
        const int8_t* values = operands.values + key * channels;
        for (int64_t d = 0; d < channels; d += kBlock)
            Isa::block(values + d * kKeys, weights, 1, kBlock, 8, kWeightBits, products + d * kBlock, kBlock);
        for (int64_t q = 0; q < kBlock; q += kLanes) {
            const Vector more = load(gain + q), less = load(shrink + q);
            for (int64_t d = 0; d < channels; ++d) {
                float* out = gathered.mixed[d] + q;
                store(out, fma(to_float(load(products + d * kBlock + q)), more, load(out) * less));
            }
        }
    }

    for (int64_t i = 0; i < count; ++i) {
        float* y = a.y + ((head / a.heads * a.queries + first + i) * a.heads + head % a.heads) * a.width;
        const float inverse = 1 / gathered.total[i];
        for (int64_t d = 0; d < a.width; ++d) y[d] = gathered.mixed[d][i] * inverse * operands.value_scale[d];
    }
}

template <class Isa>
inline void int8_attention(const Attention& a, int threads) {
    const int64_t bytes = KeysAndValues::bytes(a), heads = a.batch * a.heads;
    auto* memory = static_cast<char*>(scratch(Scratch::keys, size_t(bytes * heads)));
    parallel(2 * heads, threads, [&](int64_t task) {
        const KeysAndValues operands(a, memory + task / 2 * bytes);
        (task % 2 ? prepare_values : prepare_keys<Isa>)(a, task / 2, operands);
    });
    const int64_t groups = (a.queries + kQueriesPerTask - 1) / kQueriesPerTask;
    parallel(heads * groups, threads, [&](int64_t task) {
        const int64_t first = task % groups * kQueriesPerTask;
        const KeysAndValues operands(a, memory + task / groups * bytes);
        Isa::begin();
        for (int64_t query = first; query < a.queries && query < first + kQueriesPerTask; query += kBlock)
            attend<Isa>(a, task / groups, query, operands);
        Isa::end();
    });
}

}  // namespace
