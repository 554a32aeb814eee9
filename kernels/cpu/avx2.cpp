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

    // Adds four rows x 16 columns of products to the 32-bit sums in c, over `steps` quads of codes. Assembly and a call of
    // its own, since gcc 12 keeps other things in registers and moves the sums in and out of memory at every step.
    __attribute__((noinline)) static void widen(const int8_t* a, const uint8_t* b, int64_t steps, int32_t* c,
                                                int64_t stride) {
        __m256i sums[4][2] = {};
        for (const int8_t* token = a; steps > 0; token += kTileBytes - kTileDepth)
            for (int64_t quad = steps < kTile ? steps : kTile; quad > 0; --quad, --steps, token += 4, b += 64) {
                const __m256i left = _mm256_loadu_si256((const __m256i*)b);
                const __m256i right = _mm256_loadu_si256((const __m256i*)(b + 32));
#pragma GCC unroll 4
                for (int i = 0; i < 4; ++i) {
                    __m256i tokens, products;
                    __asm__("vpbroadcastd %[four], %[tokens]\n\t"
                            "vpmaddubsw %[tokens], %[left], %[products]\n\t"
                            "vpmaddubsw %[tokens], %[right], %[tokens]\n\t"
                            "vpaddw %[products], %[sum_left], %[sum_left]\n\t"
                            "vpaddw %[tokens], %[sum_right], %[sum_right]"
                            : [sum_left] "+x"(sums[i][0]), [sum_right] "+x"(sums[i][1]), [tokens] "=&x"(tokens),
                              [products] "=&x"(products)
                            : [left] "x"(left), [right] "x"(right),
                              [four] "m"(*(const int32_t*)(token + i * kTileDepth)));
                }
            }
        const __m256i ones = _mm256_set1_epi16(1);
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i)
#pragma GCC unroll 2
            for (int j = 0; j < 2; ++j) {
                auto* total = (__m256i*)(c + i * stride + 8 * j);
                const __m256i wide = _mm256_madd_epi16(sums[i][j], ones);
                _mm256_storeu_si256(total, _mm256_add_epi32(_mm256_loadu_si256(total), wide));
            }
    }

    template <int64_t steps>
    static void strip(const int8_t* a, const uint8_t* b, int64_t depth, int32_t* c, int64_t stride) {
        for (int64_t i = 0; i < 4; ++i) std::memset(c + i * stride, 0, kTile * sizeof(int32_t));
        const int64_t quads = depth / kTile / 4;
        for (int64_t start = 0; start < quads; start += steps)
            widen(a + start / kTile * kTileBytes + start % kTile * 4, b + start * 64,
                  quads - start < steps ? quads - start : steps, c, stride);
    }

    static void strips(const int8_t* a, const uint8_t* b, int64_t depth, int bits, int32_t* c, int64_t stride) {
        for (int64_t row = 0; row < kTile; row += 4) {
            if (bits == 4)
                strip<128>(a + row * kTileDepth, b, depth, c + row * stride, stride);
            else
                strip<8>(a + row * kTileDepth, b, depth, c + row * stride, stride);
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
