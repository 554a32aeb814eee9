// Which tile of the output a block computes: columns of kRasterRows tiles, one after another, so that neighbours meet in
// the L2 cache and no row of activations is read from memory again for every channel tile.
#pragma once

#include <device.cuh>

#include "arguments.h"

constexpr unsigned kRasterRows = 8;  // tiles of tokens that neighbouring blocks share their weights across

template <int tokens, int channels>
struct TileOrigin {
  int64_t token, channel;

  __device__ explicit TileOrigin(const GemmArguments& p) {
    const unsigned rows = static_cast<unsigned>((p.m + tokens - 1) / tokens);
    const unsigned columns = static_cast<unsigned>((p.n + channels - 1) / channels);
    const unsigned band = blockIdx.x / (kRasterRows * columns), within = blockIdx.x % (kRasterRows * columns);
    const unsigned left = rows - band * kRasterRows, height = left < kRasterRows ? left : kRasterRows;
    token = static_cast<int64_t>(band * kRasterRows + within % height) * tokens;
    channel = static_cast<int64_t>(within / height) * channels;
  }
};
