// What stands around the products of a 3x3 convolution by tiles (kernels/winograd.py has the definition): every
// operation is rounded in its order, and factors that are powers of two do not round.
#pragma once

#include "interface.h"
#include "parallel.h"
#include "vector.h"

namespace {

constexpr int kTileOut = 4, kTileIn = 6;  // a tile's outputs and inputs along an axis
constexpr int kProducts = kTileIn * kTileIn;
constexpr int64_t kTilesPerTask = 8;

// Six inputs that lie `step` apart to the factors of as many products.
inline void inputs_to_factors(Vector* v, int step) {
    const Vector d0 = v[0], d1 = v[step], d2 = v[2 * step], d3 = v[3 * step], d4 = v[4 * step], d5 = v[5 * step];
    const Vector two = broadcast(2), four = broadcast(4), outer = d4 - d2, inner = d3 - d1;
    const Vector even = fma(-four, d2, d4), odd = fma(-four, d1, d3);
    v[0] = fma(four, d0 - d2, outer);
    v[step] = even + odd;
    v[2 * step] = even - odd;
    v[3 * step] = fma(two, inner, outer);
    v[4 * step] = fma(-two, inner, outer);
    v[5 * step] = fma(-four, inner, d5 - d3);
}

// Six products that lie `step` apart to four outputs in the first places.
inline void products_to_outputs(Vector* v, int step) {
    const Vector m0 = v[0], m1 = v[step], m2 = v[2 * step], m3 = v[3 * step], m4 = v[4 * step], m5 = v[5 * step];
    const Vector sum = m1 + m2, difference = m1 - m2, far_sum = m3 + m4, far_difference = m3 - m4;
    v[0] = (m0 + sum) + far_sum;
    v[step] = fma(broadcast(2), far_difference, difference);
    v[2 * step] = fma(broadcast(4), far_sum, sum);
    v[3 * step] = fma(broadcast(8), far_difference, difference) + m5;
}

// Calls body(tile, row, column, count) for the tiles of a strip: which it is, the pixel where its outputs begin, and
// how many tiles there are.
template <class Body>
inline void over_tiles(const Tiles& tiles, int threads, const Body& body) {
    const int64_t across = (tiles.width + kTileOut - 1) / kTileOut, count = tiles.rows * across;
    parallel((count + kTilesPerTask - 1) / kTilesPerTask, threads, [&](int64_t task) {
        for (int64_t tile = task * kTilesPerTask; tile < count && tile < (task + 1) * kTilesPerTask; ++tile)
            body(tile, (tiles.first + tile / across) * kTileOut, tile % across * kTileOut, count);
    });
}

inline void tile_factors(const Tiles& tiles, int threads) {
    over_tiles(tiles, threads, [&](int64_t tile, int64_t row, int64_t column, int64_t count) {
        const float* inputs[kProducts];
        for (int i = 0; i < kProducts; ++i) {
            const int64_t y = row - 1 + i / kTileIn, x = column - 1 + i % kTileIn;
            const bool inside = y >= 0 && y < tiles.height && x >= 0 && x < tiles.width;
            inputs[i] = inside ? tiles.map + (y * tiles.width + x) * tiles.channels : nullptr;
        }
        float* out = tiles.products + tile * tiles.channels;
        for (int64_t channel = 0; channel < tiles.channels; channel += kLanes) {
            Vector v[kProducts];
            for (int i = 0; i < kProducts; ++i) v[i] = inputs[i] ? load(inputs[i] + channel) : Vector{};
            for (int i = 0; i < kTileIn; ++i) inputs_to_factors(v + i, kTileIn);
            for (int i = 0; i < kTileIn; ++i) inputs_to_factors(v + i * kTileIn, 1);
            for (int i = 0; i < kProducts; ++i) store(out + i * count * tiles.channels + channel, v[i]);
        }
    });
}

inline void tile_outputs(const Tiles& tiles, int threads) {
    over_tiles(tiles, threads, [&](int64_t tile, int64_t row, int64_t column, int64_t count) {
        const float* products = tiles.products + tile * tiles.channels;
        const int64_t down = tiles.height - row < kTileOut ? tiles.height - row : kTileOut;
        const int64_t right = tiles.width - column < kTileOut ? tiles.width - column : kTileOut;
        for (int64_t channel = 0; channel < tiles.channels; channel += kLanes) {
            Vector v[kProducts];
            for (int i = 0; i < kProducts; ++i) v[i] = load(products + i * count * tiles.channels + channel);
            for (int i = 0; i < kTileIn; ++i) products_to_outputs(v + i, kTileIn);
            for (int i = 0; i < kTileOut; ++i) products_to_outputs(v + i * kTileIn, 1);
            const Vector bias = tiles.bias ? load(tiles.bias + channel) : Vector{};
            for (int64_t y = 0; y < down; ++y)
                for (int64_t x = 0; x < right; ++x)
                    store(tiles.map + ((row + y) * tiles.width + column + x) * tiles.channels + channel,
                          v[y * kTileIn + x] + bias);
        }
    });
}

}  // namespace
