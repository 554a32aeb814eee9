// AVX2: pairs of an unsigned weight and a signed token are multiplied and added to 16 bits without saturation only if
// the weight has 4 bits: 2 * 15 * 128 < 2^15. An 8-bit weight w is split into 16 h + l, both of 4 bits.
//
// Sums stay in 16 bits as long as they fit: 128 steps of two products with 4-bit tokens (2 * 15 * 8 * 128 < 2^15),
// 8 steps with 8-bit ones. That is four times the rate of float multiply-adds.
#include "operators.h"

namespace {

struct Avx2 {
    static constexpr int32_t offset(int bits) { return 1 << (bits - 1); }
    static constexpr int64_t panels(int bits) { return bits == 8 ? 2 : 1; }
    static void begin() {}
    static void end() {}

    static void pack(const int8_t (*codes)[kTileDepth], int bits, uint8_t* tile, int64_t gap) {
        if (bits == 4) return transpose_tile(codes, 8, tile);
        alignas(64) int8_t high[kTile][kTileDepth], low[kTile][kTileDepth];
        for (int64_t i = 0; i < kTile; ++i)
            for (int64_t k = 0; k < kTileDepth; ++k) {
                const uint8_t code = uint8_t(codes[i][k] + 128);
                high[i][k] = int8_t(code >> 4);
                low[i][k] = int8_t(code & 15);
            }
        transpose_tile(high, 0, tile);
        transpose_tile(low, 0, tile + gap);
    }

    // Four rows x 16 columns; `steps` quads of codes between two widenings of the sums.
    template <int64_t steps>
    static void strip(const int8_t* a, const uint8_t* b, int64_t depth, int32_t* c, int64_t stride) {
        const __m256i ones = _mm256_set1_epi16(1);
        __m256i wide[4][2] = {};
        for (int64_t start = 0; start < depth / kTile / 4;) {
            const int64_t end = start + steps < depth / kTile / 4 ? start + steps : depth / kTile / 4;
            __m256i sums[4][2] = {};
            for (; start < end; ++start) {
                const int8_t* token = a + start / kTile * kTileBytes + start % kTile * 4;
                const __m256i left = _mm256_loadu_si256((const __m256i*)(b + start * 64));
                const __m256i right = _mm256_loadu_si256((const __m256i*)(b + start * 64 + 32));
#pragma GCC unroll 4
                for (int i = 0; i < 4; ++i) {
                    int32_t four;
                    std::memcpy(&four, token + i * kTileDepth, sizeof four);
                    const __m256i tokens = _mm256_set1_epi32(four);
                    sums[i][0] = _mm256_add_epi16(sums[i][0], _mm256_maddubs_epi16(left, tokens));
                    sums[i][1] = _mm256_add_epi16(sums[i][1], _mm256_maddubs_epi16(right, tokens));
                }
            }
#pragma GCC unroll 4
            for (int i = 0; i < 4; ++i) {
                wide[i][0] = _mm256_add_epi32(wide[i][0], _mm256_madd_epi16(sums[i][0], ones));
                wide[i][1] = _mm256_add_epi32(wide[i][1], _mm256_madd_epi16(sums[i][1], ones));
            }
        }
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) {
            _mm256_storeu_si256((__m256i*)(c + i * stride), wide[i][0]);
            _mm256_storeu_si256((__m256i*)(c + i * stride + 8), wide[i][1]);
        }
    }

    static void strips(const int8_t* a, const uint8_t* b, int64_t depth, int bits, int32_t* c, int64_t stride) {
        for (int64_t row = 0; row < kTile; row += 4) {
            if (bits == 4)
                strip<64>(a + row * kTileDepth, b, depth, c + row * stride, stride);
            else
                strip<4>(a + row * kTileDepth, b, depth, c + row * stride, stride);
        }
    }

    static void block(const int8_t* a, const uint8_t* b, int64_t tiles, int64_t rows, int token_bits, int weight_bits,
                      int32_t* c, int64_t stride) {
        const int64_t depth = tiles * kTileBytes;
        alignas(64) int32_t low[kTile * kTile];
        for (int64_t row = 0; row < rows; row += kTile, a += depth, c += kTile * stride)
            for (int64_t column = 0; column < kBlock; column += kTile) {
                const uint8_t* weights = b + column / kTile * depth * panels(weight_bits);
                strips(a, weights, depth, token_bits, c + column, stride);
                if (weight_bits == 4) continue;
                strips(a, weights + depth, depth, token_bits, low, kTile);
                for (int64_t i = 0; i < kTile; ++i)
                    for (int64_t j = 0; j < kTile; ++j) {
                        int32_t& total = c[i * stride + column + j];
                        total = total * 16 + low[i * kTile + j];
                    }
            }
    }
};

}  // namespace

const Kernels avx2_kernels = operators<Avx2>();
