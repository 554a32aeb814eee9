// Intel AMX: matrix tiles of 16 x 64 signed bytes, 16,384 products an instruction.
#include "operators.h"

namespace {

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

    // Registers 0-3 accumulate a 2 x 2 arrangement of tiles, 4-5 hold tokens, 6-7 weights.
    static void block(const int8_t* a, const uint8_t* b, int64_t tiles, int64_t rows, int, int, int32_t* c,
                      int64_t stride) {
        const int64_t next = tiles * kTileBytes;
        const size_t c_stride = size_t(stride) * sizeof(int32_t);
        _tile_zero(0);
        _tile_zero(1);
        if (rows <= kTile) {
            for (int64_t k = 0; k < next; k += kTileBytes) {
                _tile_loadd(4, a + k, kTileDepth);
                _tile_loadd(6, b + k, kTileDepth);
                _tile_dpbssd(0, 4, 6);
                _tile_loadd(7, b + next + k, kTileDepth);
                _tile_dpbssd(1, 4, 7);
            }
            _tile_stored(0, c, c_stride);
            _tile_stored(1, c + kTile, c_stride);
            return;
        }
        _tile_zero(2);
        _tile_zero(3);
        for (int64_t k = 0; k < next; k += kTileBytes) {
            _tile_loadd(4, a + k, kTileDepth);
            _tile_loadd(6, b + k, kTileDepth);
            _tile_loadd(7, b + next + k, kTileDepth);
            _tile_dpbssd(0, 4, 6);
            _tile_loadd(5, a + next + k, kTileDepth);
            _tile_dpbssd(1, 4, 7);
            _tile_dpbssd(2, 5, 6);
            _tile_dpbssd(3, 5, 7);
        }
        _tile_stored(0, c, c_stride);
        _tile_stored(1, c + kTile, c_stride);
        _tile_stored(2, c + kTile * stride, c_stride);
        _tile_stored(3, c + kTile * stride + kTile, c_stride);
    }
};

}  // namespace

const Kernels amx_kernels = operators<Amx>();
