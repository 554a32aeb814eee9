// AVX2 multiplies pairs of bytes and adds them to 16 bits, or pairs of 16-bit words to 32. The longer sums may stay
// narrow, the fewer instructions a product takes:
//   4-bit weights, as unsigned bytes: 128 steps with 4-bit tokens (2 * 15 * 8 * 128 < 2^15), 8 with 8-bit ones fit
//   16 bits, at up to four times the rate of float multiply-adds.
//   7-bit weights, as unsigned bytes: one step fits (2 * 127 * 128 < 2^15) and is widened at once.
//   8-bit weights, as words, for bytes would saturate.
#include "operators.h"

namespace {

typedef int32_t Quad __attribute__((may_alias));

// What is done with a quad of one token and 16 columns of weights in two registers. Assembly, since gcc 12 adds in an
// order of its own and then moves sums in and out of memory at every step.
#define STEP(instructions, ...)                                                                                  \
    static void add(const void* quad, __m256i left, __m256i right, __m256i& sum_left, __m256i& sum_right) {      \
        __m256i token, product;                                                                                  \
        __asm__("vpbroadcastd %[quad], %[token]\n\t" instructions                                                \
                : [sum_left] "+x"(sum_left), [sum_right] "+x"(sum_right), [token] "=&x"(token),                  \
                  [product] "=&x"(product)                                                                       \
                : [left] "x"(left), [right] "x"(right),                                                          \
                  [quad] "m"(*static_cast<const Quad*>(quad)) __VA_ARGS__);                                      \
    }

struct Narrow {  // four bytes, 16-bit sums
    STEP("vpmaddubsw %[token], %[left], %[product]\n\t"
         "vpmaddubsw %[token], %[right], %[token]\n\t"
         "vpaddw %[product], %[sum_left], %[sum_left]\n\t"
         "vpaddw %[token], %[sum_right], %[sum_right]")
};

struct Widened {  // four bytes, 32-bit sums
    STEP("vpmaddubsw %[token], %[left], %[product]\n\t"
         "vpmaddubsw %[token], %[right], %[token]\n\t"
         "vpmaddwd %[ones], %[product], %[product]\n\t"
         "vpmaddwd %[ones], %[token], %[token]\n\t"
         "vpaddd %[product], %[sum_left], %[sum_left]\n\t"
         "vpaddd %[token], %[sum_right], %[sum_right]",
         , [ones] "x"(_mm256_set1_epi16(1)))
};

struct Words {  // two words, 32-bit sums
    STEP("vpmaddwd %[token], %[left], %[product]\n\t"
         "vpmaddwd %[token], %[right], %[token]\n\t"
         "vpaddd %[product], %[sum_left], %[sum_left]\n\t"
         "vpaddd %[token], %[sum_right], %[sum_right]")
};

#undef STEP

struct Avx2 {
    static constexpr int32_t offset(int bits) { return bits == kPackedBits ? kLargestPackedCode + 1 : 0; }
    static constexpr int64_t panels(int bits) { return bits == kByteBits ? 2 : 1; }
    static void begin() {}
    static void end() {}

    static void pack(const int8_t (*codes)[kTileDepth], int bits, uint8_t* tile, int64_t gap) {
        if (bits == kPackedBits) return transpose_tile(codes, int8_t(offset(bits)), tile);
        alignas(64) int16_t words[kTile][kTileDepth / 2];
        for (int64_t half = 0; half < 2; ++half) {
            for (int64_t i = 0; i < kTile; ++i)
                for (int64_t k = 0; k < kTileDepth / 2; ++k) words[i][k] = codes[i][half * kTileDepth / 2 + k];
            transpose_tile(reinterpret_cast<const int8_t(*)[kTileDepth]>(words), 0, tile + half * gap);
        }
    }

    // `count` tokens x 16 columns are summed in registers; six of them leave none over.
    template <int count>
    using Sums = __m256i[count][2];

    template <class Step, int quads, int count>
    static void add(const char* tokens, int64_t token_bytes, const uint8_t* b, Sums<count>& sums) {
#pragma GCC unroll 16
        for (int64_t quad = 0; quad < quads; ++quad) {
            const __m256i left = _mm256_loadu_si256((const __m256i*)(b + 64 * quad));
            const __m256i right = _mm256_loadu_si256((const __m256i*)(b + 64 * quad + 32));
#pragma GCC unroll 6
            for (int64_t i = 0; i < count; ++i)
                Step::add(tokens + i * token_bytes + 4 * quad, left, right, sums[i][0], sums[i][1]);
        }
    }

    // The first quad, whose products are the sums.
    template <int count>
    static void start(const char* tokens, const uint8_t* b, Sums<count>& sums) {
        const __m256i left = _mm256_loadu_si256((const __m256i*)b), right = _mm256_loadu_si256((const __m256i*)(b + 32));
#pragma GCC unroll 6
        for (int64_t i = 0; i < count; ++i) {
            const __m256i token = _mm256_set1_epi32(quad_at((const int8_t*)tokens + i * kTileDepth));
            sums[i][0] = _mm256_maddubs_epi16(left, token);
            sums[i][1] = _mm256_maddubs_epi16(right, token);
        }
    }

    // To c, together with what is there unless that is `fresh`.
    template <int count>
    static void deliver(const Sums<count>& sums, bool narrow, int32_t* c, int64_t stride, bool fresh) {
#pragma GCC unroll 6
        for (int64_t i = 0; i < count; ++i)
#pragma GCC unroll 2
            for (int64_t j = 0; j < 2; ++j) {
                auto* total = (__m256i*)(c + i * stride + 8 * j);
                const __m256i wide = narrow ? _mm256_madd_epi16(sums[i][j], _mm256_set1_epi16(1)) : sums[i][j];
                _mm256_storeu_si256(total, fresh ? wide : _mm256_add_epi32(_mm256_loadu_si256(total), wide));
            }
    }

    // Products of `count` tokens and 16 columns over at most kTiles tiles; the second panel lies `gap` bytes further.
    using Multiply = void (*)(const char* a, const uint8_t* b, int64_t gap, int64_t tiles, int32_t* c, int64_t stride,
                              bool fresh);
    static constexpr int64_t kTiles = 8;  // of 16 steps; so many of 32 tokens and 32 columns fit a first-level cache
    static_assert(2 * kPackedMask * (kLargestPackedCode + 1) * kTiles * 16 <= INT16_MAX, "4-bit tokens");
    static_assert(2 * kPackedMask * (kLargestWholeCode + 1) * 8 <= INT16_MAX, "8-bit tokens");
    static_assert(2 * kLargestAttentionCode * (kLargestWholeCode + 1) <= INT16_MAX, "7-bit weights");

    template <int count>
    __attribute__((noinline)) static void multiply_4_bit_tokens(const char* a, const uint8_t* b, int64_t, int64_t tiles,
                                                                int32_t* c, int64_t stride, bool fresh) {
        Sums<count> sums = {};
        for (; tiles > 0; --tiles, a += kTileBytes, b += kTileBytes) add<Narrow, 16>(a, kTileDepth, b, sums);
        deliver(sums, true, c, stride, fresh);
    }

    template <int count>
    __attribute__((noinline)) static void multiply_8_bit_tokens(const char* a, const uint8_t* b, int64_t, int64_t tiles,
                                                                int32_t* c, int64_t stride, bool fresh) {
        for (int64_t half = 0; half < 2 * tiles; ++half, b += kTileBytes / 2) {
            const char* tokens = a + half / 2 * kTileBytes + half % 2 * kTileDepth / 2;
            Sums<count> sums;
            start(tokens, b, sums);
            add<Narrow, 7>(tokens + 4, kTileDepth, b + 64, sums);
            deliver(sums, true, c, stride, fresh && half == 0);
        }
    }

    template <int count>
    __attribute__((noinline)) static void multiply_7_bit_weights(const char* a, const uint8_t* b, int64_t,
                                                                 int64_t tiles, int32_t* c, int64_t stride,
                                                                 bool fresh) {
        Sums<count> sums = {};
        for (; tiles > 0; --tiles, a += kTileBytes, b += kTileBytes) add<Widened, 16>(a, kTileDepth, b, sums);
        deliver(sums, false, c, stride, fresh);
    }

    template <int count>
    __attribute__((noinline)) static void multiply_words(const char* a, const uint8_t* b, int64_t gap, int64_t tiles,
                                                         int32_t* c, int64_t stride, bool fresh) {
        Sums<count> sums = {};
        for (; tiles > 0; --tiles, a += 2 * kTileBytes, b += kTileBytes) {
            add<Words, 16>(a, 2 * kTileDepth, b, sums);
            add<Words, 16>(a + kTileDepth, 2 * kTileDepth, b + gap, sums);
        }
        deliver(sums, false, c, stride, fresh);
    }

    template <int count>
    static Multiply choose(int token_bits, int weight_bits) {
        if (weight_bits == kByteBits) return multiply_words<count>;
        if (weight_bits == kProbabilityBits) return multiply_7_bit_weights<count>;
        return token_bits == kByteBits ? multiply_8_bit_tokens<count> : multiply_4_bit_tokens<count>;
    }

    static void block(const int8_t* a, const uint8_t* b, int64_t tiles, int64_t rows, int token_bits, int weight_bits,
                      int32_t* c, int64_t stride) {
        const Multiply six = choose<6>(token_bits, weight_bits), four = choose<4>(token_bits, weight_bits);
        const int64_t depth = tiles * kTileBytes, bytes = panels(weight_bits);  // of a token's code, too
        const int64_t step = weight_bits == kProbabilityBits ? 4 : 6;  // tokens; what widens at once needs a register more
        alignas(64) int16_t words[kTiles * kTileBytes];
        for (int64_t first = 0; first < tiles; first += kTiles, a += kTiles * kTileBytes, b += kTiles * kTileBytes) {
            const int64_t count = tiles - first < kTiles ? tiles - first : kTiles;
            for (int64_t row = 0; row < rows; row += kTile) {
                const int8_t* tokens = a + row / kTile * depth;
                if (bytes == 2)
                    for (int64_t k = 0; k < count * kTileBytes; ++k) words[k] = tokens[k];
                const char* operand = bytes == 2 ? (const char*)words : (const char*)tokens;
                for (int64_t column = 0; column < kBlock; column += kTile)
                    for (int64_t i = 0; i < kTile && row + i < rows; i += step)
                        (step == 6 && i + step <= kTile ? six : four)(
                            operand + i * bytes * kTileDepth, b + column / kTile * depth * bytes, depth, count,
                            c + (row + i) * stride + column, stride, first == 0);
            }
        }
    }
};

}  // namespace

const Kernels avx2_kernels = operators<Avx2>();
