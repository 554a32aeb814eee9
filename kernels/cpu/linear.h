// The integer product of a quantised layer and what stands around it, for any instruction set.
//
// Codes of tokens lie in tiles of 16 rows x 64 codes, a weight's codes in tiles of 64 codes x 16 columns with four
// consecutive codes of a column together: the operands of every dot-product instruction, and of a matrix tile, are then
// consecutive. A weight is read in its stored form and laid out anew at each call, a block of columns per task, which
// costs a few per cent of the product and saves keeping a second copy of it.
//
// An instruction set is a class Isa with
//   offset(bits)                  what is added to a weight's code to make it the operand: 0, or 2^(bits-1) if unsigned
//   panels(bits)                  weight tiles per 16 columns: 2 where codes of a whole byte are split into halves, else 1
//   pack(rows, bits, tile, gap)   codes + offset of 16 columns x 64 to one tile (and a second one `gap` bytes further)
//   block(...)                    32 x 32 accumulators of operands, plus offset * (sum of the row's codes)
//   begin(), end()                what a thread needs around them
#pragma once

#include "interface.h"
#include "parallel.h"
#include "prologue.h"

namespace {

constexpr int64_t kTile = 16;             // rows or columns of a tile
constexpr int64_t kBlock = 32;            // rows and columns of the accumulators that are computed at a time
constexpr int64_t kTileBytes = kTile * kTileDepth;
constexpr int64_t kPanelBytes = 1 << 20;  // of a task's laid-out weight: half of a second-level cache
constexpr int64_t kCodeBytes = 1 << 23;   // of tokens that are quantised before they are multiplied, and their number:
constexpr int64_t kCodeRows = 1536;       // a second-level cache holds most of them, a weight is laid out for many

// Tokens as the product wants them.
struct Tokens {
    int8_t* codes;      // tiles [rows / 16][features / 64]
    float* scale;       // [rows]
    int32_t* code_sum;  // [rows]
    int64_t rows, tiles;

    int8_t* row(int64_t i) const { return codes + (i / kTile * tiles) * kTileBytes + i % kTile * kTileDepth; }
};

inline Tokens allocate_tokens(int64_t rows, int64_t features) {
    const int64_t tiles = round_up(features, kTileDepth) / kTileDepth;
    const int64_t padded = round_up(rows, kBlock);
    auto* memory = static_cast<char*>(scratch(Scratch::codes, size_t(padded * (tiles * kTileDepth + 8))));
    auto* scale = reinterpret_cast<float*>(memory + padded * tiles * kTileDepth);
    return {reinterpret_cast<int8_t*>(memory), scale, reinterpret_cast<int32_t*>(scale + padded), rows, tiles};
}

// The same for every token, and computed once for all threads.
inline Smoothing smoothing_of(const Rows& rows) {
    return {rows, static_cast<float*>(scratch(Scratch::smoothing, size_t(Smoothing::floats(rows)) * sizeof(float)))};
}

inline float* row_buffer(const Rows& rows) {
    return static_cast<float*>(scratch(Scratch::row, size_t(round_up(rows.features, kTileDepth)) * sizeof(float)));
}

constexpr int64_t kRowsPerTask = 32;

inline void quantize_rows(const Rows& rows, int8_t* codes, float* scale, int threads) {
    const Smoothing smoothing = smoothing_of(rows);
    parallel((rows.rows + kRowsPerTask - 1) / kRowsPerTask, threads, [&](int64_t task) {
        float* row = row_buffer(rows);
        const int64_t padded = round_up(rows.features, kTileDepth);
        for (int64_t i = task * kRowsPerTask; i < rows.rows && i < (task + 1) * kRowsPerTask; ++i) {
            int32_t code_sum;
            const float* x = token(rows, i);
            int8_t* out = codes + i * rows.features;
            if (padded == rows.features) {
                scale[i] = quantize_row(x, rows, smoothing, row, out, kTileDepth, &code_sum);
                continue;
            }
            auto* whole = static_cast<int8_t*>(scratch(Scratch::panel, size_t(padded)));
            scale[i] = quantize_row(x, rows, smoothing, row, whole, kTileDepth, &code_sum);
            std::memcpy(out, whole, size_t(rows.features));
        }
    });
}

inline void quantize_tokens(const Rows& rows, int64_t first, const Smoothing& smoothing, const Tokens& tokens,
                            int threads) {
    parallel((tokens.rows + kRowsPerTask - 1) / kRowsPerTask, threads, [&](int64_t task) {
        float* row = row_buffer(rows);
        for (int64_t i = task * kRowsPerTask; i < tokens.rows && i < (task + 1) * kRowsPerTask; ++i)
            tokens.scale[i] = quantize_row(token(rows, first + i), rows, smoothing, row, tokens.row(i),
                                           kTileBytes, tokens.code_sum + i);
    });
}

// Turns 16 columns x 64 codes into a tile: quads of consecutive codes, column after column.
inline void transpose_tile(const int8_t (*codes)[kTileDepth], int8_t offset, uint8_t* tile) {
#if defined(__AVX512F__)
    __m512i v[kTile], w[kTile];
    const __m512i shift = _mm512_set1_epi8(offset);
    for (int i = 0; i < kTile; ++i) v[i] = _mm512_add_epi8(_mm512_loadu_si512(codes[i]), shift);
    for (int i = 0; i < kTile; i += 4) {  // 4 x 4 within each 128-bit lane
        const __m512i a = _mm512_unpacklo_epi32(v[i], v[i + 1]), b = _mm512_unpackhi_epi32(v[i], v[i + 1]);
        const __m512i c = _mm512_unpacklo_epi32(v[i + 2], v[i + 3]), d = _mm512_unpackhi_epi32(v[i + 2], v[i + 3]);
        w[i] = _mm512_unpacklo_epi64(a, c);
        w[i + 1] = _mm512_unpackhi_epi64(a, c);
        w[i + 2] = _mm512_unpacklo_epi64(b, d);
        w[i + 3] = _mm512_unpackhi_epi64(b, d);
    }
    for (int i = 0; i < 4; ++i) {  // then the lanes themselves
        const __m512i a = _mm512_shuffle_i32x4(w[i], w[i + 4], 0x44), b = _mm512_shuffle_i32x4(w[i], w[i + 4], 0xee);
        const __m512i c = _mm512_shuffle_i32x4(w[i + 8], w[i + 12], 0x44);
        const __m512i d = _mm512_shuffle_i32x4(w[i + 8], w[i + 12], 0xee);
        _mm512_storeu_si512(tile + 64 * i, _mm512_shuffle_i32x4(a, c, 0x88));
        _mm512_storeu_si512(tile + 64 * (i + 4), _mm512_shuffle_i32x4(a, c, 0xdd));
        _mm512_storeu_si512(tile + 64 * (i + 8), _mm512_shuffle_i32x4(b, d, 0x88));
        _mm512_storeu_si512(tile + 64 * (i + 12), _mm512_shuffle_i32x4(b, d, 0xdd));
    }
#elif defined(__AVX2__)
    const __m256i shift = _mm256_set1_epi8(offset);
    for (int i = 0; i < kTile; i += 8)
        for (int quad = 0; quad < kTile; quad += 8) {
            __m256i v[8], w[8];
            for (int j = 0; j < 8; ++j)
                v[j] = _mm256_add_epi8(_mm256_loadu_si256((const __m256i*)(codes[i + j] + 4 * quad)), shift);
            for (int j = 0; j < 8; j += 4) {  // 4 x 4 within each 128-bit lane
                const __m256i a = _mm256_unpacklo_epi32(v[j], v[j + 1]), b = _mm256_unpackhi_epi32(v[j], v[j + 1]);
                const __m256i c = _mm256_unpacklo_epi32(v[j + 2], v[j + 3]);
                const __m256i d = _mm256_unpackhi_epi32(v[j + 2], v[j + 3]);
                w[j] = _mm256_unpacklo_epi64(a, c);
                w[j + 1] = _mm256_unpackhi_epi64(a, c);
                w[j + 2] = _mm256_unpacklo_epi64(b, d);
                w[j + 3] = _mm256_unpackhi_epi64(b, d);
            }
            for (int j = 0; j < 4; ++j) {  // then the lanes themselves
                auto* out = (__m256i*)(tile + (quad + j) * 64 + i * 4);
                _mm256_storeu_si256(out, _mm256_permute2x128_si256(w[j], w[j + 4], 0x20));
                _mm256_storeu_si256(out + 8, _mm256_permute2x128_si256(w[j], w[j + 4], 0x31));
            }
        }
#else
    for (int64_t i = 0; i < kTile; ++i)
        for (int64_t quad = 0; quad < kTile; ++quad)
            for (int64_t k = 0; k < 4; ++k) tile[quad * 64 + i * 4 + k] = uint8_t(codes[i][quad * 4 + k] + offset);
#endif
}

// What a code of the weight has in storage, and the fewest bits that hold a token's codes: one of two widths.
inline int weight_bits(const Product& product) { return product.codes_to_a_byte == 1 ? kByteBits : kPackedBits; }
inline int token_bits(const Rows& rows) { return rows.largest_code <= kLargestPackedCode ? kPackedBits : kByteBits; }

// Codes of one column of a stored weight at depth `k`, 64 of them; zeros beyond the end.
inline void read_codes(const Product& product, int64_t features, int64_t column, int64_t k, int8_t* codes) {
    const int64_t count = features - k < kTileDepth ? features - k : kTileDepth;
    if (product.codes_to_a_byte == 1) {
        std::memcpy(codes, static_cast<const int8_t*>(product.weight) + column * features + k, size_t(count));
    } else {
        const uint8_t* packed = static_cast<const uint8_t*>(product.weight) + (column * features + k) / kCodesToAByte;
        uint8_t bytes[kTileDepth / kCodesToAByte] = {};
        if (count < kTileDepth) {
            std::memcpy(bytes, packed, size_t(count / kCodesToAByte));
            packed = bytes;
        }
#if defined(__AVX2__)
        const __m256i v = _mm256_loadu_si256((const __m256i*)packed), mask = _mm256_set1_epi8(kPackedMask);
        const __m256i sign = _mm256_set1_epi8(kLargestPackedCode + 1);
        const __m256i low = _mm256_and_si256(v, mask), high = _mm256_and_si256(_mm256_srli_epi16(v, kPackedBits), mask);
        const __m256i a = _mm256_sub_epi8(_mm256_xor_si256(_mm256_unpacklo_epi8(low, high), sign), sign);
        const __m256i b = _mm256_sub_epi8(_mm256_xor_si256(_mm256_unpackhi_epi8(low, high), sign), sign);
        _mm256_storeu_si256((__m256i*)codes, _mm256_permute2x128_si256(a, b, 0x20));
        _mm256_storeu_si256((__m256i*)codes + 1, _mm256_permute2x128_si256(a, b, 0x31));
#else
        constexpr int sign = kLargestPackedCode + 1;
        for (int i = 0; i < kTileDepth / kCodesToAByte; ++i) {
            codes[2 * i] = int8_t(((packed[i] & kPackedMask) ^ sign) - sign);
            codes[2 * i + 1] = int8_t(((packed[i] >> kPackedBits) ^ sign) - sign);
        }
#endif
    }
    if (count < kTileDepth) std::memset(codes + count, 0, size_t(kTileDepth - count));
}

template <class Isa>
inline void pack_panel(const Product& product, int64_t features, int64_t first, int64_t columns, uint8_t* panel) {
    const int64_t tiles = round_up(features, kTileDepth) / kTileDepth;
    const int64_t gap = tiles * kTileBytes;
    const int bits = weight_bits(product);
    alignas(64) int8_t codes[kTile][kTileDepth];
    for (int64_t column = first; column < first + columns; column += kTile) {
        for (int64_t tile = 0; tile < tiles; ++tile) {
            for (int64_t i = 0; i < kTile; ++i) {
                if (column + i < product.outputs)
                    read_codes(product, features, column + i, tile * kTileDepth, codes[i]);
                else
                    std::memset(codes[i], 0, kTileDepth);
            }
            Isa::pack(codes, bits, panel + tile * kTileBytes, gap);
        }
        panel += gap * Isa::panels(bits);
    }
}

// A block of accumulators to float32, row by row: the rows of a wide output may all fall into one set of the cache.
template <bool with_gain, bool with_residual>
inline void scale_block(const int32_t* block, const float* token_scale, const int32_t* code_sum, int32_t offset,
                        int64_t rows, const Product& product, int64_t place, int64_t column) {
    const float* scale = product.weight_scale + column;
    const float* gain = with_gain ? product.layer_scale + column : nullptr;
    const float* residual = with_residual ? product.residual + place : nullptr;
    float* y = product.y + place;
    alignas(64) float bias[kBlock] = {};
    if (product.bias) std::memcpy(bias, product.bias + column, sizeof bias);
    const int64_t stride = product.outputs;
    for (int64_t i = 0; i < rows; ++i, block += kBlock, y += stride) {
        const Integers shift = Integers{} + offset * code_sum[i];
        const Vector token = broadcast(token_scale[i]);
#pragma GCC unroll 8
        for (int64_t j = 0; j < kBlock; j += kLanes) {
            Vector v = to_float(load(block + j) - shift) * token * load(scale + j) + load(bias + j);
            if (with_gain) v *= load(gain + j);
            store(y + j, with_residual ? load(residual + j) + v : v);
        }
        if (with_residual) residual += stride;
    }
}

// Accumulators [rows, columns] of a block to where the caller wants them.
inline void finish(const int32_t* block, const Tokens& tokens, int64_t token, int64_t rows, const Product& product,
                   int64_t first_row, int64_t column, int32_t offset) {
    const int64_t columns = product.outputs - column < kBlock ? product.outputs - column : kBlock;
    const int64_t place = (first_row + token) * product.outputs + column;
    const float* scale = tokens.scale + token;
    const int32_t* code_sum = tokens.code_sum + token;
    if (product.accumulators) {
        for (int64_t i = 0; i < rows; ++i)
            for (int64_t j = 0; j < columns; ++j)
                product.accumulators[place + i * product.outputs + j] = block[i * kBlock + j] - offset * code_sum[i];
        return;
    }
    if (columns == kBlock) {
        const auto with_gain = product.residual ? scale_block<true, true> : scale_block<true, false>;
        const auto without = product.residual ? scale_block<false, true> : scale_block<false, false>;
        const auto scale_all = product.layer_scale ? with_gain : without;
        return scale_all(block, scale, code_sum, offset, rows, product, place, column);
    }
    for (int64_t i = 0; i < rows; ++i)
        for (int64_t j = 0; j < columns; ++j) {
            const int64_t at = place + i * product.outputs + j;
            float v = float(block[i * kBlock + j] - offset * code_sum[i]) * scale[i] * product.weight_scale[column + j];
            if (product.bias) v += product.bias[column + j];
            if (product.layer_scale) v *= product.layer_scale[column + j];
            product.y[at] = product.residual ? product.residual[at] + v : v;
        }
}

#if defined(__AVX2__)

constexpr int64_t kFewRows = 4;      // for which laying out a packed weight takes longer than multiplying it as it is
constexpr int64_t kNarrowTiles = 4;  // whose sums fit 16 bits
static_assert(4 * (2 * kLargestPackedCode + 1) * (kLargestWholeCode + 1) * kNarrowTiles <= INT16_MAX, "");

// Products of `rows` tokens and a column of a packed weight. `codes` has 64 of each token in turn, even ones first.
template <int rows>
inline void multiply_column(const int8_t* codes, const Product& product, int64_t features, int64_t column,
                            int32_t* sums) {
    const uint8_t* packed = static_cast<const uint8_t*>(product.weight) + column * features / kCodesToAByte;
    const __m256i mask = _mm256_set1_epi8(kPackedMask), shift = _mm256_set1_epi8(kLargestPackedCode + 1);
    __m256i wide[rows] = {};
    for (int64_t k = 0; k < features;) {
        __m256i narrow[rows] = {};
        for (int64_t tile = 0; tile < kNarrowTiles && k < features; ++tile, k += kTileDepth) {
            __m256i v = {};
            if (features - k >= kTileDepth)
                v = _mm256_loadu_si256((const __m256i*)(packed + k / kCodesToAByte));
            else
                std::memcpy(&v, packed + k / kCodesToAByte, size_t((features - k) / kCodesToAByte));
            const __m256i even = _mm256_xor_si256(_mm256_and_si256(v, mask), shift);
            const __m256i odd = _mm256_xor_si256(_mm256_and_si256(_mm256_srli_epi16(v, kPackedBits), mask), shift);
#pragma GCC unroll 4
            for (int i = 0; i < rows; ++i, codes += kTileDepth) {
                const __m256i left = _mm256_load_si256((const __m256i*)codes);
                const __m256i right = _mm256_load_si256((const __m256i*)codes + 1);
                narrow[i] = _mm256_add_epi16(narrow[i], _mm256_maddubs_epi16(even, left));
                narrow[i] = _mm256_add_epi16(narrow[i], _mm256_maddubs_epi16(odd, right));
            }
        }
#pragma GCC unroll 4
        for (int i = 0; i < rows; ++i)
            wide[i] = _mm256_add_epi32(wide[i], _mm256_madd_epi16(narrow[i], _mm256_set1_epi16(1)));
    }
    for (int i = 0; i < rows; ++i) {
        __m128i v = _mm_add_epi32(_mm256_castsi256_si128(wide[i]), _mm256_extracti128_si256(wide[i], 1));
        v = _mm_add_epi32(v, _mm_shuffle_epi32(v, 0x4e));
        sums[i * kBlock] = _mm_cvtsi128_si32(v) + _mm_extract_epi32(v, 1);
    }
}

// Product of a few quantised tokens and a packed weight, whose way from memory takes most of the time.
inline void multiply_few(const Tokens& tokens, int64_t features, int64_t first_row, const Product& product,
                         int threads) {
    constexpr decltype(&multiply_column<1>) kColumn[kFewRows] = {multiply_column<1>, multiply_column<2>,
                                                                 multiply_column<3>, multiply_column<4>};
    auto* codes = static_cast<int8_t*>(scratch(Scratch::panel, size_t(tokens.rows * tokens.tiles * kTileDepth)));
    for (int64_t chunk = 0; chunk < tokens.rows * tokens.tiles; ++chunk) {
        const int8_t* tile = tokens.row(chunk % tokens.rows) + chunk / tokens.rows * kTileBytes;
        for (int64_t k = 0; k < kTileDepth; ++k)
            codes[chunk * kTileDepth + k % 2 * kTileDepth / 2 + k / 2] = tile[k];
    }
    parallel((product.outputs + kBlock - 1) / kBlock, threads, [&](int64_t task) {
        alignas(64) int32_t block[kFewRows * kBlock];
        const int64_t first = task * kBlock;
        for (int64_t column = 0; column < kBlock && first + column < product.outputs; ++column)
            kColumn[tokens.rows - 1](codes, product, features, first + column, block + column);
        finish(block, tokens, 0, tokens.rows, product, first_row, first, kLargestPackedCode + 1);
    });
}

#endif

// Product of quantised tokens, rows `first_row` onwards of the output.
template <class Isa>
inline void multiply(const Tokens& tokens, const Rows& rows, int64_t first_row, const Product& product, int threads) {
    const int bits = weight_bits(product);
#if defined(__AVX2__)
    if (bits == kPackedBits && tokens.rows && tokens.rows <= kFewRows)
        return multiply_few(tokens, rows.features, first_row, product, threads);
#endif
    const int64_t column_bytes = tokens.tiles * kTileDepth * Isa::panels(bits);
    int64_t width = kPanelBytes / column_bytes;
    const int64_t share = (product.outputs + 2 * threads - 1) / (2 * threads);
    if (width > share) width = share;
    width = width < kBlock ? kBlock : width > 256 ? 256 : round_up(width, kBlock);

    parallel((product.outputs + width - 1) / width, threads, [&](int64_t task) {
        const int64_t first = task * width;
        const int64_t left = round_up(product.outputs - first, kBlock);
        const int64_t columns = left < width ? left : width;
        auto* panel = static_cast<uint8_t*>(scratch(Scratch::panel, size_t(columns * column_bytes)));
        pack_panel<Isa>(product, rows.features, first, columns, panel);
        alignas(64) int32_t block[kBlock * kBlock];
        Isa::begin();
        for (int64_t token = 0; token < tokens.rows; token += kBlock) {
            const int64_t count = tokens.rows - token < kBlock ? tokens.rows - token : kBlock;
            for (int64_t column = 0; column < columns && first + column < product.outputs; column += kBlock) {
                Isa::block(tokens.row(token), panel + column * column_bytes, tokens.tiles, count, token_bits(rows),
                           bits, block, kBlock);
                finish(block, tokens, token, count, product, first_row, first + column, Isa::offset(bits));
            }
        }
        Isa::end();
    });
}

template <class Isa>
inline void linear(const Rows& rows, const Product& product, int threads) {
    const int64_t fitting = round_up(kCodeBytes / round_up(rows.features, kTileDepth), kBlock);
    const int64_t most = fitting < kCodeRows ? fitting : kCodeRows, chunks = (rows.rows + most - 1) / most;
    const int64_t chunk = chunks ? round_up((rows.rows + chunks - 1) / chunks, kBlock) : 0;
    const Smoothing smoothing = smoothing_of(rows);
    for (int64_t first = 0; first < rows.rows; first += chunk) {
        const Tokens tokens = allocate_tokens(rows.rows - first < chunk ? rows.rows - first : chunk, rows.features);
        quantize_tokens(rows, first, smoothing, tokens, threads);
        multiply<Isa>(tokens, rows, first, product, threads);
    }
}

template <class Isa>
inline void integer_matmul(const int8_t* codes, const Rows& rows, const Product& product, int threads) {
    const Tokens tokens = allocate_tokens(rows.rows, rows.features);
    for (int64_t i = 0; i < rows.rows; ++i) {
        int32_t total = 0;
        const int8_t* source = codes + i * rows.features;
        for (int64_t k = 0; k < tokens.tiles * kTileDepth; ++k) {
            const int8_t code = k < rows.features ? source[k] : int8_t(0);
            tokens.row(i)[k / kTileDepth * kTileBytes + k % kTileDepth] = code;
            total += code;
        }
        tokens.code_sum[i] = total;
    }
    multiply<Isa>(tokens, rows, 0, product, threads);
}

}  // namespace
