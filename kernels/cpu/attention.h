// Attention on 8-bit codes, one block of 64 keys after the other, with a running maximum (Milakov and Gimelshein, 2018;
// Dao et al., "FlashAttention", 2022). kernels/reference.py, int8_attention, is the definition.
#pragma once

#include "linear.h"

namespace {

constexpr int64_t kKeys = 64;            // that share one scale of their weights: one tile of the second product
constexpr int64_t kQueriesPerTask = 128;  // which amortise reading the keys
constexpr int64_t kLargestWidth = 128;
constexpr float kLargestProbabilityCode = 127;

// One head's keys and values as operands: keys [keys / 32 blocks][width], values [keys / 64][width / 32 blocks][64].
struct KeysAndValues {
    uint8_t *keys, *values;
    float *key_scale, *value_scale;

    static int64_t width_tiles(const Attention& a) { return (a.width + kTileDepth - 1) / kTileDepth; }
    static int64_t padded_keys(const Attention& a) { return round_up(a.keys, kKeys); }

    template <class Isa>
    static int64_t bytes(const Attention& a) {
        const int64_t tile = kTileBytes * Isa::panels(8);
        const int64_t keys = padded_keys(a) / kTile * width_tiles(a) * tile;
        const int64_t values = padded_keys(a) / kKeys * (round_up(a.width, kBlock) / kTile) * tile;
        return round_up(keys + values + (padded_keys(a) + kLargestWidth) * int64_t(sizeof(float)), 64);
    }

    template <class Isa>
    KeysAndValues(const Attention& a, uint8_t* memory, Isa) {
        const int64_t tile = kTileBytes * Isa::panels(8);
        keys = memory;
        values = keys + padded_keys(a) / kTile * width_tiles(a) * tile;
        key_scale = reinterpret_cast<float*>(values + padded_keys(a) / kKeys * (round_up(a.width, kBlock) / kTile) * tile);
        value_scale = key_scale + padded_keys(a);
    }
};

inline const float* token(const float* x, const int64_t* stride, const Attention& a, int64_t head, int64_t i) {
    return x + head / a.heads * stride[0] + head % a.heads * stride[1] + i * stride[2];
}

// Codes of one row with its own scale; `codes` is `padded` long.
inline float quantize_vector(const float* x, int64_t width, int64_t padded, int8_t* codes, int32_t* code_sum) {
    float top = 0;
    for (int64_t i = 0; i < width; ++i) top = __builtin_fabsf(x[i]) > top ? __builtin_fabsf(x[i]) : top;
    const float scale = top > 0 ? top / 127 : 1, inverse = 1 / scale;
    alignas(64) float row[kLargestWidth];
    for (int64_t i = 0; i < padded; ++i) row[i] = i < width ? x[i] * inverse : 0.0f;
    Vector total = {};
    for (int64_t i = 0; i < padded; i += kLanes) {
        const Vector code = round_even(load(row + i));
        total += code;
        store_codes(codes + i, code);
    }
    *code_sum = int32_t(sum(total));
    return scale;
}

template <class Isa>
inline void prepare_keys(const Attention& a, int64_t head, const KeysAndValues& operands) {
    const int64_t tiles = KeysAndValues::width_tiles(a), padded = tiles * kTileDepth;
    const int64_t gap = tiles * kTileBytes;
    alignas(64) float mean[kLargestWidth] = {}, row[kLargestWidth];
    for (int64_t i = 0; i < a.keys; ++i) {
        const float* k = token(a.k, a.k_stride, a, head, i);
        for (int64_t d = 0; d < a.width; ++d) mean[d] += k[d];
    }
    for (int64_t d = 0; d < a.width; ++d) mean[d] /= float(a.keys);
    alignas(64) int8_t codes[kTile][kLargestWidth], part[kTile][kTileDepth];
    int32_t unused;
    for (int64_t first = 0; first < KeysAndValues::padded_keys(a); first += kTile) {
        for (int64_t i = 0; i < kTile; ++i) {
            operands.key_scale[first + i] = 1;
            std::memset(codes[i], 0, sizeof codes[i]);
            if (first + i >= a.keys) continue;
            const float* k = token(a.k, a.k_stride, a, head, first + i);
            for (int64_t d = 0; d < a.width; ++d) row[d] = k[d] - mean[d];
            operands.key_scale[first + i] = quantize_vector(row, a.width, padded, codes[i], &unused);
        }
        for (int64_t tile = 0; tile < tiles; ++tile) {
            for (int64_t i = 0; i < kTile; ++i) std::memcpy(part[i], codes[i] + tile * kTileDepth, kTileDepth);
            Isa::pack(part, 8, operands.keys + first / kTile * gap * Isa::panels(8) + tile * kTileBytes, gap);
        }
    }
}

template <class Isa>
inline void prepare_values(const Attention& a, int64_t head, const KeysAndValues& operands) {
    alignas(64) float inverse[kLargestWidth];
    for (int64_t d = 0; d < kLargestWidth; ++d) operands.value_scale[d] = 0;
    for (int64_t i = 0; i < a.keys; ++i) {
        const float* v = token(a.v, a.v_stride, a, head, i);
        for (int64_t d = 0; d < a.width; ++d) {
            const float magnitude = __builtin_fabsf(v[d]);
            operands.value_scale[d] = magnitude > operands.value_scale[d] ? magnitude : operands.value_scale[d];
        }
    }
    for (int64_t d = 0; d < kLargestWidth; ++d) {
        operands.value_scale[d] = operands.value_scale[d] > 0 ? operands.value_scale[d] / 127 : 1;
        inverse[d] = 1 / operands.value_scale[d];
    }
    const int64_t columns = round_up(a.width, kBlock);
    alignas(64) int8_t rows[kKeys][kLargestWidth], codes[kTile][kTileDepth];
    uint8_t* out = operands.values;
    for (int64_t first = 0; first < a.keys; first += kKeys) {
        std::memset(rows, 0, sizeof rows);
        for (int64_t i = 0; i < kKeys && first + i < a.keys; ++i) {
            alignas(64) float scaled[kLargestWidth] = {};
            const float* v = token(a.v, a.v_stride, a, head, first + i);
            for (int64_t d = 0; d < a.width; ++d) scaled[d] = v[d] * inverse[d];
            for (int64_t d = 0; d < columns; d += kLanes) store_codes(rows[i] + d, load(scaled + d));
        }
        for (int64_t column = 0; column < columns; column += kTile, out += kTileBytes * Isa::panels(8)) {
            for (int64_t i = 0; i < kTile; ++i)
                for (int64_t k = 0; k < kKeys; ++k) codes[i][k] = rows[k][column + i];
            Isa::pack(codes, 8, out, kTileBytes);
        }
    }
}

// 32 queries against one head.
template <class Isa>
inline void attend(const Attention& a, int64_t head, int64_t first, const KeysAndValues& operands) {
    const int64_t tiles = KeysAndValues::width_tiles(a), padded = tiles * kTileDepth;
    const int64_t columns = round_up(a.width, kBlock), tile = kTileBytes * Isa::panels(8);
    const int64_t count = a.queries - first < kBlock ? a.queries - first : kBlock;
    const float softmax_scale = 1.0f / __builtin_sqrtf(float(a.width));

    alignas(64) int8_t queries[kBlock * kLargestWidth] = {};
    alignas(64) int8_t probabilities[kBlock * kTileDepth] = {};
    alignas(64) int32_t scores[kBlock * kKeys], products[kBlock * kBlock];
    alignas(64) float mixed[kBlock][kLargestWidth] = {}, row[kLargestWidth];
    alignas(64) int8_t codes[kLargestWidth];
    float query_scale[kBlock], running[kBlock], total[kBlock] = {}, gain[kBlock];
    int32_t code_sum[kBlock], probability_sum[kBlock];

    for (int64_t i = 0; i < count; ++i) {
        const float* q = token(a.q, a.q_stride, a, head, first + i);
        for (int64_t d = 0; d < a.width; ++d) row[d] = q[d] * softmax_scale;
        query_scale[i] = quantize_vector(row, a.width, padded, codes, code_sum + i);
        for (int64_t t = 0; t < tiles; ++t)
            std::memcpy(queries + (i / kTile * tiles + t) * kTileBytes + i % kTile * kTileDepth,
                        codes + t * kTileDepth, kTileDepth);
        running[i] = -__builtin_inff();
    }

    for (int64_t key = 0; key < a.keys; key += kKeys) {
        for (int64_t half = 0; half < kKeys; half += kBlock)
            Isa::block(queries, operands.keys + (key + half) / kTile * tiles * tile, tiles, count, 8, 8, scores + half,
                       kKeys);
        const int64_t valid = a.keys - key;
        for (int64_t i = 0; i < count; ++i) {
            Vector s[kKeys / kLanes], top = broadcast(-__builtin_inff());
            for (int64_t j = 0; j < kKeys; j += kLanes) {
                const Integers sums = load(scores + i * kKeys + j) - Isa::offset(8) * code_sum[i];
                Vector v = to_float(sums) * query_scale[i] * load(operands.key_scale + key + j);
                if (valid < j + kLanes)
                    for (int64_t lane = 0; lane < kLanes; ++lane)
                        if (j + lane >= valid) v[lane] = -__builtin_inff();
                s[j / kLanes] = v;
                top = maximum(top, v);
            }
            const float block_top = highest(top);
            Vector sums = {};
            int8_t* out = probabilities + i * kTileDepth;
            for (int64_t j = 0; j < kKeys; j += kLanes) {
                const Vector p = exponential(s[j / kLanes] - broadcast(block_top)) * kLargestProbabilityCode;
                const Vector code = round_even(p);
                sums += code;
                store_codes(out + j, code);
            }
            const float code_total = sum(sums);
            probability_sum[i] = int32_t(code_total);
            gain[i] = 1;
            if (block_top > running[i]) {
                const float shrink = running[i] == -__builtin_inff() ? 0.0f
                                                                     : exponential(broadcast(running[i] - block_top))[0];
                for (int64_t d = 0; d < columns; d += kLanes) store(mixed[i] + d, load(mixed[i] + d) * shrink);
                total[i] *= shrink;
                running[i] = block_top;
            } else {
                gain[i] = exponential(broadcast(block_top - running[i]))[0];
            }
            total[i] += code_total * gain[i];
        }
        for (int64_t column = 0; column < columns; column += kBlock) {
            const uint8_t* values = operands.values + (key / kKeys * columns + column) / kTile * tile;
            Isa::block(probabilities, values, 1, count, 8, 8, products, kBlock);
            for (int64_t i = 0; i < count; ++i)
                for (int64_t j = 0; j < kBlock; j += kLanes) {
                    const Integers sums = load(products + i * kBlock + j) - Isa::offset(8) * probability_sum[i];
                    float* out = mixed[i] + column + j;
                    store(out, fma(to_float(sums), broadcast(gain[i]), load(out)));
                }
        }
    }

    for (int64_t i = 0; i < count; ++i) {
        float* y = a.y + (((head / a.heads) * a.queries + first + i) * a.heads + head % a.heads) * a.width;
        for (int64_t d = 0; d < a.width; ++d) y[d] = mixed[i][d] / total[i] * operands.value_scale[d];
    }
}

template <class Isa>
inline void int8_attention(const Attention& a, int threads) {
    const int64_t bytes = KeysAndValues::bytes<Isa>(a), heads = a.batch * a.heads;
    auto* memory = static_cast<uint8_t*>(scratch(Scratch::keys, size_t(bytes * heads)));
    parallel(2 * heads, threads, [&](int64_t task) {
        const KeysAndValues operands(a, memory + task / 2 * bytes, Isa());
        if (task % 2)
            prepare_values<Isa>(a, task / 2, operands);
        else
            prepare_keys<Isa>(a, task / 2, operands);
    });
    const int64_t groups = (a.queries + kQueriesPerTask - 1) / kQueriesPerTask;
    parallel(heads * groups, threads, [&](int64_t task) {
        const int64_t first = task % groups * kQueriesPerTask;
        const KeysAndValues operands(a, memory + task / groups * bytes, Isa());
        Isa::begin();
        for (int64_t query = first; query < a.queries && query < first + kQueriesPerTask; query += kBlock)
            attend<Isa>(a, task / groups, query, operands);
        Isa::end();
    });
}

}  // namespace
