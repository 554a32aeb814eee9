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

// One head's operands: keys as tiles [keys / 16][width / 64], values transposed as tiles [keys / 64][width / 16].
struct KeysAndValues {
    int8_t *keys, *values;
    float *key_scale, *value_scale;
    int32_t* key_offset;  // what an unsigned operand for the queries adds to a key's scores

    KeysAndValues(const Attention& a, int64_t head) {
        const int64_t padded = round_up(a.keys, kKeys);
        keys = reinterpret_cast<int8_t*>(a.packed + head * bytes(a.keys, a.width));
        values = keys + padded * round_up(a.width, kTileDepth);
        key_scale = reinterpret_cast<float*>(values + padded * round_up(a.width, kBlock));
        key_offset = reinterpret_cast<int32_t*>(key_scale + padded);
        value_scale = reinterpret_cast<float*>(key_offset + padded);
    }

    static int64_t bytes(int64_t keys, int64_t width) {
        const int64_t of_a_key = round_up(width, kTileDepth) + round_up(width, kBlock) + 8;
        return round_up(round_up(keys, kKeys) * of_a_key + 4 * kLargestWidth, 64);
    }
};

inline int64_t packed_bytes(int64_t keys, int64_t width) { return KeysAndValues::bytes(keys, width); }

inline const float* first_token(const float* x, const int64_t* stride, const Attention& a, int64_t head) {
    return x + head / a.heads * stride[0] + head % a.heads * stride[1];
}

// Codes of a row of `padded` floats with a scale of its own, 64 codes at a time to codes, codes + chunk_stride, ...
inline float quantize_vector(const float* row, int64_t padded, int8_t* codes, int64_t chunk_stride, int32_t* code_sum) {
    Vector top = {};
    for (int64_t i = 0; i < padded; i += kLanes) top = maximum(top, absolute(load(row + i)));
    const float extreme = highest(top), scale = extreme > 0 ? extreme / kLargestAttentionCode : 1;
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

// 64 floats of a row from `x` on, of which the row has `left`; `spare` lends zeros for the rest.
inline const float* whole_chunk(const float* x, int64_t left, float* spare) {
    if (left >= kTileDepth) return x;
    std::memcpy(spare, x, size_t(left) * sizeof(float));
    return spare;
}

// Combines 64 channels of all tokens, from `x` on, into one row.
template <class Combine>
inline void over_tokens(const float* x, int64_t tokens, int64_t stride, int64_t left, float* out, Combine combine) {
    alignas(64) float spare[kTileDepth] = {};
    Vector combined[kTileDepth / kLanes] = {};
    for (int64_t i = 0; i < tokens; ++i, x += stride) {
        const float* chunk = whole_chunk(x, left, spare);
#pragma GCC unroll 16
        for (int j = 0; j < kTileDepth / kLanes; ++j) combined[j] = combine(combined[j], load(chunk + j * kLanes));
    }
    std::memcpy(out, combined, sizeof combined);
}

// A row of `width` floats, filled up with zeros, of which `change` makes what is quantised.
template <class Change>
inline void change_row(const float* x, int64_t width, float* row, Change change) {
    alignas(64) float spare[kTileDepth] = {};
    for (int64_t d = 0; d < width; d += kTileDepth) {
        const float* chunk = whole_chunk(x + d, width - d, spare);
        for (int64_t j = 0; j < kTileDepth; j += kLanes) store(row + d + j, change(load(chunk + j), d + j));
    }
}

template <class Isa>
inline void prepare_keys(const Attention& a, int64_t head, const KeysAndValues& operands) {
    const int64_t padded = round_up(a.width, kTileDepth), tile_row = padded / kTileDepth * kTileBytes;
    const float* keys = first_token(a.k, a.k_stride, a, head);
    alignas(64) float mean[kLargestWidth], row[kLargestWidth];
    for (int64_t d = 0; d < padded; d += kTileDepth)
        over_tokens(keys + d, a.keys, a.k_stride[2], a.width - d, mean + d, [](Vector x, Vector y) { return x + y; });
    for (int64_t d = 0; d < padded; ++d) mean[d] /= float(a.keys);
    for (int64_t i = 0; i < a.keys; ++i) {
        change_row(keys + i * a.k_stride[2], a.width, row, [&](Vector v, int64_t d) { return v - load(mean + d); });
        operands.key_scale[i] =
            quantize_vector(row, padded, operands.keys + i / kTile * tile_row + i % kTile * kTileDepth, kTileBytes,
                            operands.key_offset + i);
        operands.key_offset[i] *= Isa::offset(kAttentionBits);
    }
}

inline void prepare_values(const Attention& a, int64_t head, const KeysAndValues& operands) {
    const float* values = first_token(a.v, a.v_stride, a, head);
    alignas(64) float extreme[kLargestWidth] = {}, inverse[kLargestWidth];
    for (int64_t d = 0; d < a.width; d += kTileDepth)
        over_tokens(values + d, a.keys, a.v_stride[2], a.width - d, extreme + d,
                    [](Vector x, Vector y) { return maximum(x, absolute(y)); });
    for (int64_t d = 0; d < kLargestWidth; ++d) {
        operands.value_scale[d] = extreme[d] > 0 ? extreme[d] / kLargestAttentionCode : 1;
        inverse[d] = 1 / operands.value_scale[d];
    }
    // Four keys to a word, then words are transposed like a weight's: a channel's 64 codes come to lie together.
    const int64_t channels = round_up(a.width, kBlock);
    alignas(64) const float nothing[kTileDepth] = {};
    alignas(64) float spare[4][kTileDepth] = {};
    alignas(64) int32_t words[kLargestWidth / kTile][kTile][kTile];
    int8_t* out = operands.values;
    for (int64_t first = 0; first < a.keys; first += kKeys) {
        for (int64_t i = 0; i < kKeys; i += 4)
            for (int64_t d = 0; d < a.width; d += kTileDepth) {
                const float* rows[4];
                for (int64_t j = 0; j < 4; ++j) {
                    const float* value = values + (first + i + j) * a.v_stride[2] + d;
                    rows[j] = first + i + j < a.keys ? whole_chunk(value, a.width - d, spare[j]) : nothing;
                }
                for (int64_t c = 0; c < kTileDepth; c += kLanes) {
                    const Vector gain = load(inverse + d + c);
                    const auto code = [&](int j) { return round_to_integer(load(rows[j] + c) * gain); };
                    store(&words[(d + c) / kTile][i / 4][c % kTile],
                          (code(0) & 255) | (code(1) & 255) << 8 | (code(2) & 255) << 16 | code(3) << 24);
                }
            }
        for (int64_t d = 0; d < channels; d += kTile, out += kTileBytes)
            transpose_tile(reinterpret_cast<const int8_t(*)[kTileDepth]>(words[d / kTile]), 0,
                           reinterpret_cast<uint8_t*>(out));
    }
}

// What 32 queries have gathered so far, a query per column.
struct Gathered {
    alignas(64) float mixed[kLargestWidth][kBlock];
    alignas(64) float highest[kBlock], total[kBlock] = {};

    explicit Gathered(int64_t channels) {
        std::memset(mixed, 0, size_t(channels) * sizeof mixed[0]);
        for (float& value : highest) value = -__builtin_inff();
    }

    // Mixtures of the values of the first `count` queries, a query per row.
    void deliver(const float* value_scale, int64_t count, int64_t width, float* y, int64_t stride) const {
        alignas(64) float part[kTile][kTile], turned[kLargestWidth / kTile][kTile][kTile], inverse[kBlock];
        for (int64_t q = 0; q < kBlock; q += kLanes) store(inverse + q, broadcast(1.0f) / load(total + q));
        for (int64_t q = 0; q < count; q += kTile) {
            for (int64_t d = 0; d < width; d += kTile) {
                for (int64_t i = 0; i < kTile; ++i)
                    for (int64_t j = 0; j < kTile; j += kLanes)
                        store(&part[i][j], load(&mixed[d + i][q + j]) * load(inverse + q + j) * value_scale[d + i]);
                transpose_tile(reinterpret_cast<const int8_t(*)[kTileDepth]>(part), 0,
                               reinterpret_cast<uint8_t*>(turned[d / kTile]));
            }
            for (int64_t j = 0; j < kTile && q + j < count; ++j) {
                float* out = y + (q + j) * stride;
                int64_t d = 0;
                for (; d + kTile <= width; d += kTile) std::memcpy(out + d, turned[d / kTile][j], sizeof turned[0][j]);
                for (; d < width; ++d) out[d] = turned[d / kTile][j][d % kTile];
            }
        }
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
        if (Isa::offset(kAttentionBits)) sums -= key_offset[i];
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

    const Vector most = broadcast(kLog2OfLargestAttentionCode);  // never exceeded: scores lose their maximum first
    Integers code_total = {};
    for (int64_t i = 0; i < kKeys; i += 4, panel += 4 * kTile) {
        Vector v[4];
#pragma GCC unroll 4
        for (int64_t j = 0; j < 4; ++j)
            v[j] = fma(load(reinterpret_cast<float*>(scores + (i + j) * kBlock)) - top, scale, most);
        powers_of_two(v);
        Integers quad = {};
#pragma GCC unroll 4
        for (int64_t j = 0; j < 4; ++j) {
            const Integers code = round_to_integer(v[j]);
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
    alignas(64) int8_t codes[kLargestWidth / kTileDepth][kTile][kTileDepth] = {};
    alignas(64) float row[kLargestWidth], query_scale[kBlock] = {}, gain[kBlock], shrink[kBlock];
    alignas(64) int32_t scores[kKeys * kBlock], products[kLargestWidth * kBlock];
    const float* tokens = first_token(a.q, a.q_stride, a, head) + first * a.q_stride[2];
    int32_t unused;
    for (int64_t i = 0; i < kBlock; i += kTile) {
        for (int64_t j = 0; j < kTile && i + j < count; ++j) {
            change_row(tokens + (i + j) * a.q_stride[2], a.width, row,
                       [=](Vector v, int64_t) { return v * softmax_scale; });
            query_scale[i + j] = kLog2E * quantize_vector(row, padded, codes[0][j], kTileBytes, &unused);
        }
        for (int64_t t = 0; t < tiles; ++t)
            Isa::pack(codes[t], kAttentionBits,
                      queries + (i / kTile * tiles * Isa::panels(kAttentionBits) + t) * kTileBytes, depth);
    }

    float* y = a.y + ((head / a.heads * a.queries + first) * a.heads + head % a.heads) * a.width;
    Gathered gathered(channels);
    for (int64_t key = 0; key < a.keys; key += kKeys) {
        const int64_t keys = a.keys - key < kKeys ? a.keys - key : kKeys;
        for (int64_t i = 0; i < keys; i += kBlock)
            Isa::block(operands.keys + (key + i) / kTile * depth, queries, tiles, keys - i < kBlock ? keys - i : kBlock,
                       kAttentionBits, kAttentionBits, scores + i * kBlock, kBlock);
        for (int64_t q = 0; q < kBlock; q += kLanes)
            weigh<Isa>(scores + q, operands.key_scale + key, operands.key_offset + key, keys, load(query_scale + q),
                       gathered.highest + q, gathered.total + q, weights + q / kTile * kTileBytes + q % kTile * 4,
                       gain + q, shrink + q);
        const int8_t* values = operands.values + key * channels;
        for (int64_t d = 0; d < channels; d += kBlock)
            Isa::block(values + d * kKeys, weights, 1, kBlock, kAttentionBits, kProbabilityBits, products + d * kBlock,
                       kBlock);
        for (int64_t q = 0; q < kBlock; q += kLanes) {
            const Vector more = load(gain + q), less = load(shrink + q);
            for (int64_t d = 0; d < channels; ++d) {
                float* out = gathered.mixed[d] + q;
                store(out, fma(to_float(load(products + d * kBlock + q)), more, load(out) * less));
            }
        }
    }

    gathered.deliver(operands.value_scale, count, a.width, y, a.heads * a.width);
}

template <class Isa>
inline void pack_keys_values(const Attention& a, int threads) {
    parallel(2 * a.batch * a.heads, threads, [&](int64_t task) {
        (task % 2 ? prepare_values : prepare_keys<Isa>)(a, task / 2, KeysAndValues(a, task / 2));
    });
}

template <class Isa>
inline void packed_attention(const Attention& a, int threads) {
    const int64_t groups = (a.queries + kQueriesPerTask - 1) / kQueriesPerTask;
    parallel(a.batch * a.heads * groups, threads, [&](int64_t task) {
        const int64_t first = task % groups * kQueriesPerTask;
        const KeysAndValues operands(a, task / groups);
        Isa::begin();
        for (int64_t query = first; query < a.queries && query < first + kQueriesPerTask; query += kBlock)
            attend<Isa>(a, task / groups, query, operands);
        Isa::end();
    });
}

template <class Isa>
inline void int8_attention(const Attention& a, int threads) {
    Attention whole = a;
    const int64_t bytes = a.batch * a.heads * KeysAndValues::bytes(a.keys, a.width);
    whole.packed = static_cast<char*>(scratch(Scratch::keys, size_t(bytes)));
    pack_keys_values<Isa>(whole, threads);
    packed_attention<Isa>(whole, threads);
}

}  // namespace
