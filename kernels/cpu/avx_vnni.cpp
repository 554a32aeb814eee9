// AVX-VNNI: 32 products of an unsigned weight and a signed token an instruction, 8 columns wide.
#include "operators.h"

namespace {

struct AvxVnni {
    static constexpr int32_t offset(int bits) { return 1 << (bits - 1); }
    static constexpr int64_t panels(int) { return 1; }
    static void begin() {}
    static void end() {}

    static void pack(const int8_t (*codes)[kTileDepth], int bits, uint8_t* tile, int64_t) {
        transpose_tile(codes, int8_t(offset(bits)), tile);
    }

    // Assembly, since gcc 12 copies every sum before it adds to it.
    static __m256i dot(__m256i sum, __m256i weight, __m256i token) {
        __asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(weight), "x"(token));
        return sum;
    }

    // `count` rows x 16 columns in 2 * count registers.
    template <int count>
    static void strip(const int8_t* a, const uint8_t* b, int64_t depth, int32_t* c, int64_t stride) {
        __m256i sums[count][2] = {};
        for (int64_t k = 0; k < depth; k += kTileBytes) {
            const int8_t* token = a + k;
            for (int64_t quad = 0; quad < kTileDepth; quad += 4, token += 4, b += 4 * kTile) {
                const __m256i left = _mm256_loadu_si256((const __m256i*)b);
                const __m256i right = _mm256_loadu_si256((const __m256i*)(b + 32));
#pragma GCC unroll 8
                for (int i = 0; i < count; ++i) {
                    const __m256i four = _mm256_set1_epi32(quad_at(token + i * kTileDepth));
                    sums[i][0] = dot(sums[i][0], left, four);
                    sums[i][1] = dot(sums[i][1], right, four);
                }
            }
        }
#pragma GCC unroll 8
        for (int i = 0; i < count; ++i) {
            _mm256_storeu_si256((__m256i*)(c + i * stride), sums[i][0]);
            _mm256_storeu_si256((__m256i*)(c + i * stride + 8), sums[i][1]);
        }
    }

    static void block(const int8_t* a, const uint8_t* b, int64_t tiles, int64_t rows, int, int, int32_t* c,
                      int64_t stride) {
        const int64_t depth = tiles * kTileBytes;
        for (int64_t row = 0; row < rows; row += kTile, a += depth, c += kTile * stride)
            for (int64_t column = 0; column < kBlock; column += kTile) {
                const uint8_t* weights = b + column / kTile * depth;
                strip<6>(a, weights, depth, c + column, stride);
                strip<6>(a + 6 * kTileDepth, weights, depth, c + 6 * stride + column, stride);
                strip<4>(a + 12 * kTileDepth, weights, depth, c + 12 * stride + column, stride);
            }
    }
};

}  // namespace

const Kernels avx_vnni_kernels = operators<AvxVnni>();
