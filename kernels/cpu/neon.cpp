// ARM NEON dot product (Armv8.2): 16 products of signed bytes an instruction, 4 columns wide.
#include "operators.h"

namespace {

struct Neon {
    static constexpr int32_t offset(int) { return 0; }
    static constexpr int64_t panels(int) { return 1; }
    static void begin() {}
    static void end() {}

    static void pack(const int8_t (*codes)[kTileDepth], int, uint8_t* tile, int64_t) { transpose_tile(codes, 0, tile); }

    // 4 rows x 16 columns in 16 registers; one register of tokens serves four quads.
    static void strip(const int8_t* a, const int8_t* b, int64_t depth, int32_t* c, int64_t stride) {
        int32x4_t sums[4][4] = {};
        for (int64_t k = 0; k < depth; k += kTileBytes)
            for (int64_t quads = 0; quads < kTileDepth; quads += 16) {
                int8x16_t tokens[4];
                for (int i = 0; i < 4; ++i) tokens[i] = vld1q_s8(a + k + i * kTileDepth + quads);
                const int8_t* weights = b + k + quads * kTile;
                for (int j = 0; j < 4; ++j) {
                    int8x16_t columns[4];
                    for (int quad = 0; quad < 4; ++quad)
                        columns[quad] = vld1q_s8(weights + quad * 4 * kTile + j * 16);
                    for (int i = 0; i < 4; ++i) {
                        sums[i][j] = vdotq_laneq_s32(sums[i][j], columns[0], tokens[i], 0);
                        sums[i][j] = vdotq_laneq_s32(sums[i][j], columns[1], tokens[i], 1);
                        sums[i][j] = vdotq_laneq_s32(sums[i][j], columns[2], tokens[i], 2);
                        sums[i][j] = vdotq_laneq_s32(sums[i][j], columns[3], tokens[i], 3);
                    }
                }
            }
        for (int i = 0; i < 4; ++i)
            for (int j = 0; j < 4; ++j) vst1q_s32(c + i * stride + j * 4, sums[i][j]);
    }

    static void block(const int8_t* a, const uint8_t* b, int64_t tiles, int64_t rows, int, int, int32_t* c,
                      int64_t stride) {
        const int64_t depth = tiles * kTileBytes;
        for (int64_t row = 0; row < rows; row += 4) {
            const int8_t* tokens = a + row / kTile * depth + row % kTile * kTileDepth;
            for (int64_t column = 0; column < kBlock; column += kTile)
                strip(tokens, (const int8_t*)b + column / kTile * depth, depth, c + row * stride + column, stride);
        }
    }
};

}  // namespace

const Kernels neon_kernels = operators<Neon>();
