// AVX-512 VNNI: 64 products of an unsigned weight and a signed token an instruction, 16 columns wide.
#include "operators.h"

namespace {

struct Avx512 {
    static constexpr int32_t offset(int bits) { return 1 << (bits - 1); }
    static constexpr int64_t panels(int) { return 1; }
    static void begin() {}
    static void end() {}

    static void pack(const int8_t (*codes)[kTileDepth], int bits, uint8_t* tile, int64_t) {
        transpose_tile(codes, int8_t(offset(bits)), tile);
    }

    // Assembly, since gcc 12 copies every sum before it adds to it.
    static __m512i dot(__m512i sum, __m512i weight, __m512i token) {
        __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(weight), "v"(token));
        return sum;
    }

    // 8 rows x 32 columns in 16 registers.
    static void block(const int8_t* a, const uint8_t* b, int64_t tiles, int64_t rows, int, int, int32_t* c,
                      int64_t stride) {
        const int64_t next = tiles * kTileBytes;
        for (int64_t row = 0; row < rows; row += 8) {
            const int8_t* tokens = a + row / kTile * next + row % kTile * kTileDepth;
            __m512i sums[8][2] = {};
            const uint8_t* weights = b;
            for (int64_t k = 0; k < next; k += kTileBytes) {
                const int8_t* token = tokens + k;
                for (int64_t quad = 0; quad < kTileDepth; quad += 4, token += 4, weights += 4 * kTile) {
                    const __m512i left = _mm512_loadu_si512(weights);
                    const __m512i right = _mm512_loadu_si512(weights + next);
#pragma GCC unroll 8
                    for (int i = 0; i < 8; ++i) {
                        const __m512i four = _mm512_set1_epi32(quad_at(token + i * kTileDepth));
                        sums[i][0] = dot(sums[i][0], left, four);
                        sums[i][1] = dot(sums[i][1], right, four);
                    }
                }
            }
#pragma GCC unroll 8
            for (int i = 0; i < 8; ++i) {
                _mm512_storeu_si512(c + (row + i) * stride, sums[i][0]);
                _mm512_storeu_si512(c + (row + i) * stride + kTile, sums[i][1]);
            }
        }
    }
};

}  // namespace

const Kernels avx512_kernels = operators<Avx512>();
