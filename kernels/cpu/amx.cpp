// Intel AMX: matrix tiles of 16 x 64 signed bytes, 16,384 products an instruction.
#include "operators.h"

namespace {

// A macro, since the number of a register has to be a literal.
#define LOAD_WEIGHTS(tile, from)                        \
    do {                                                \
        if (passing)                                    \
            _tile_stream_loadd(tile, from, kTileDepth); \
        else                                            \
            _tile_loadd(tile, from, kTileDepth);        \
    } while (false)

struct Amx {
    static constexpr int32_t offset(int) { return 0; }
    static constexpr int64_t panels(int) { return 1; }

    static void begin() {
        struct {
            uint8_t palette = 1, start_row = 0, reserved[14] = {};
            uint16_t row_bytes[16] = {};
            uint8_t rows[16] = {};
        } configuration;
        for (int i = 0; i < 8; ++i) {
            configuration.row_bytes[i] = kTileDepth;
            configuration.rows[i] = kTile;
        }
        _tile_loadconfig(&configuration);
    }

    static void end() { _tile_release(); }

    static void pack(const int8_t (*codes)[kTileDepth], int, uint8_t* tile, int64_t) { transpose_tile(codes, 0, tile); }

    static void block(const int8_t* a, const uint8_t* b, int64_t tiles, int64_t rows, int, int, int32_t* c,
                      int64_t stride) {
        const int64_t next = tiles * kTileBytes;
        // A weight's long columns pass by the first-level cache, so that the tokens stay there for the columns after.
        const bool passing = tiles > kLargestWidth / kTileDepth;
        (passing ? multiply<true> : multiply<false>)(a, b, next, rows, c, size_t(stride) * sizeof(int32_t));
    }

    // Registers 0-3 accumulate a 2 x 2 arrangement of tiles, 4-5 hold tokens, 6-7 weights; `next` bytes lie between the
    // tiles of 16 rows or columns and those of the next 16.
    template <bool passing>
    static void multiply(const int8_t* a, const uint8_t* b, int64_t next, int64_t rows, int32_t* c, size_t stride) {
        _tile_zero(0);
        _tile_zero(1);
        if (rows <= kTile) {
            for (int64_t k = 0; k < next; k += kTileBytes) {
                _tile_loadd(4, a + k, kTileDepth);
                LOAD_WEIGHTS(6, b + k);
                _tile_dpbssd(0, 4, 6);
                LOAD_WEIGHTS(7, b + next + k);
                _tile_dpbssd(1, 4, 7);
            }
            _tile_stored(0, c, stride);
            _tile_stored(1, c + kTile, stride);
            return;
        }
        _tile_zero(2);
        _tile_zero(3);
        for (int64_t k = 0; k < next; k += kTileBytes) {
            _tile_loadd(4, a + k, kTileDepth);
            LOAD_WEIGHTS(6, b + k);
            LOAD_WEIGHTS(7, b + next + k);
            _tile_dpbssd(0, 4, 6);
            _tile_loadd(5, a + next + k, kTileDepth);
            _tile_dpbssd(1, 4, 7);
            _tile_dpbssd(2, 5, 6);
            _tile_dpbssd(3, 5, 7);
        }
        int32_t* lower = c + kTile * stride / sizeof(int32_t);
        _tile_stored(0, c, stride);
        _tile_stored(1, c + kTile, stride);
        _tile_stored(2, lower, stride);
        _tile_stored(3, lower + kTile, stride);
    }
};

#undef LOAD_WEIGHTS

}  // namespace

const Kernels amx_kernels = operators<Amx>();
