// Integer matrix product of codes with a fused epilogue: output [M, N] of activations [M, K] and weights [N, K].
//
// A block computes one tile of the output. Slices of K travel through a ring of shared-memory stages filled by
// cp.async. Rows and codes beyond the edge are zeros: they add nothing.
#include <device.cuh>

#include "arguments.h"
#include "operands.cuh"
#include "raster.cuh"
#include "slices.cuh"
#include "staged.cuh"

int launch_warpgroup_gemm(const GemmArguments& p);  // warpgroup_gemm.cu

namespace {

constexpr int kWeightSliceBytes = 64;  // of one output channel in one stage: two steps
constexpr int kSteps = kWeightSliceBytes / 32;

// Tile of tokens x channels, the grid of warps that shares it, the depth of the ring, and how many blocks should find
// registers on a multiprocessor. `tiles.py` chooses by index.
template <int m_, int n_, int warps_m_, int warps_n_, int stages_, int resident_>
struct Tile {
  static constexpr int m = m_, n = n_, warps_m = warps_m_, warps_n = warps_n_, stages = stages_, resident = resident_;
  static constexpr int threads = 32 * warps_m * warps_n;
  static constexpr int fragments_m = m / warps_m / 16, fragments_n = n / warps_n / 8;
  static_assert(fragments_n % 2 == 0, "one ldmatrix loads the weights of two fragments");
};
using Tile0 = Tile<16, 64, 1, 4, 4, 4>;
using Tile1 = Tile<64, 64, 2, 2, 4, 4>;
using Tile2 = Tile<128, 128, 2, 4, 3, 2>;
using Tile3 = Tile<128, 256, 2, 4, 3, 1>;

template <int scheme, class T>
struct Gemm {
  using O = Operands<scheme>;
  static constexpr int activation_chunks = kWeightSliceBytes * O::activation_bits / O::weight_bits / kChunk;
  static constexpr int weight_chunks = kWeightSliceBytes / kChunk;
  static constexpr int activation_stage = T::m * activation_chunks * kChunk;
  static constexpr int stage_bytes = activation_stage + T::n * weight_chunks * kChunk;
  static constexpr int shared_bytes = T::stages * stage_bytes;
  using Staged = StagedTile<T::m / T::warps_m, T::n, T::threads, 8, 1>;
  static_assert(Staged::bytes <= shared_bytes, "a part of the result fits where the ring was");
};

// The warp's share of one stage: its tokens times its channels. Lane l brings the address of row l % 8 of matrix l / 8:
// of activations rows 0-7 and 8-15 of the first 16 bytes, then of the next; of weights both halves of 8 rows, then of
// the next 8.
template <int scheme, class T>
struct WarpProduct {
  using G = Gemm<scheme, T>;
  using O = Operands<scheme>;

  LaneRow<G::activation_chunks> activations;
  LaneRow<G::weight_chunks> weights;

  __device__ WarpProduct(unsigned lane, unsigned warp)
      : activations(warp / T::warps_n * (T::m / T::warps_m) + lane % 16, lane / 16),
        weights(warp % T::warps_n * (T::n / T::warps_n) + lane / 16 * 8 + lane % 8, lane / 8 % 2) {}

  __device__ void multiply(int32_t (&accumulators)[T::fragments_m][T::fragments_n][4],
                           const unsigned char* stage) const {
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      uint32_t activation[T::fragments_m][O::activation_words], weight[T::fragments_n][O::weight_words], word[4];
#pragma unroll
      for (int i = 0; i < T::fragments_m; ++i) {
#pragma unroll
        for (int load = 0; load < O::activation_loads; ++load) {
          load_matrices(word, activations.at(stage, i, 2 * (step * O::activation_loads + load)));
          O::expand_activation(activation[i] + 4 * load, word);
        }
      }
#pragma unroll
      for (int j = 0; j < T::fragments_n; j += 2) {
        load_matrices(word, weights.at(stage + G::activation_stage, j / 2, 2 * step));
        O::expand_weight(weight[j], word[0], word[1]);
        O::expand_weight(weight[j + 1], word[2], word[3]);
      }
#pragma unroll
      for (int i = 0; i < T::fragments_m; ++i) {
#pragma unroll
        for (int j = 0; j < T::fragments_n; ++j) O::multiply(accumulators[i][j], activation[i], weight[j]);
      }
    }
  }
};

template <int scheme, class T>
__global__ void __launch_bounds__(T::threads, T::resident) gemm_kernel(const GemmArguments p) {
  using G = Gemm<scheme, T>;
  using O = Operands<scheme>;
  const TileOrigin<T::m, T::n> origin(p);

  const int64_t activation_bytes = p.k * O::activation_bits / kByteBits, weight_bytes = p.k * O::weight_bits / kByteBits;
  SliceCopy<T::m, G::activation_chunks, T::threads> activations(p.activation, p.m, activation_bytes, origin.token);
  SliceCopy<T::n, G::weight_chunks, T::threads> weights(p.weight, p.n, weight_bytes, origin.channel);
  const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const WarpProduct<scheme, T> product(lane, warp);

  unsigned char* const ring = shared_memory();
  unsigned char* const end = ring + T::stages * G::stage_bytes;
  auto advance = [&](unsigned char*& stage) {
    stage = stage + G::stage_bytes == end ? ring : stage + G::stage_bytes;
  };
  unsigned char *filled = ring, *used = ring;
  int unfetched = static_cast<int>((weight_bytes + kWeightSliceBytes - 1) / kWeightSliceBytes), left = unfetched;
  auto fetch = [&] {
    if (unfetched > 0) {
      activations.fetch_next(filled);
      weights.fetch_next(filled + G::activation_stage);
      advance(filled);
      --unfetched;
    }
    commit_copies();  // an empty group keeps the count of pending groups right
  };

  int32_t accumulators[T::fragments_m][T::fragments_n][4] = {};
  for (int stage = 0; stage < T::stages - 1; ++stage) fetch();
  for (; left > 0; --left) {
    wait_for_copies<T::stages - 2>();
    synchronize_block();  // this slice has arrived for all, and all are done with the stage filled next
    fetch();
    product.multiply(accumulators, used);
    advance(used);
  }
  wait_for_copies<0>();

  // The tokens of one row of warps at a time, which fit where the ring was. Lane l holds tokens l / 4 and l / 4 + 8,
  // channels 2 (l % 4) and the next, of each 16 x 8 fragment.
  typename G::Staged staged(ring);
  const int token = lane / 4, channel = warp % T::warps_n * (T::n / T::warps_n) + lane % 4 * 2;
#pragma unroll 1
  for (unsigned part = 0; part < T::warps_m; ++part) {
    synchronize_block();  // all are done with the ring, or with the part before
    if (part == warp / T::warps_n) {
#pragma unroll
      for (int i = 0; i < T::fragments_m; ++i) {
#pragma unroll
        for (int j = 0; j < T::fragments_n; ++j) {
          const int32_t (&d)[4] = accumulators[i][j];
          staged.put_pair(16 * i + token, channel + 8 * j, d[0] >> O::shift, d[1] >> O::shift);
          staged.put_pair(16 * i + token + 8, channel + 8 * j, d[2] >> O::shift, d[3] >> O::shift);
        }
      }
    }
    synchronize_block();
    for_output_type(p.output_dtype, [&](auto type) {
      staged.template store<typename decltype(type)::type>(p, origin.token + part * (T::m / T::warps_m), origin.channel);
    });
  }
}

template <int scheme, class T>
int launch_gemm(const GemmArguments& p) {
  const int64_t blocks = ((p.m + T::m - 1) / T::m) * ((p.n + T::n - 1) / T::n);
  if (blocks > INT32_MAX) return kInvalidArgument;
  return launch(gemm_kernel<scheme, T>, static_cast<unsigned>(blocks), T::threads, Gemm<scheme, T>::shared_bytes,
                static_cast<Stream>(p.stream), p);
}

template <int scheme>
int launch_scheme(const GemmArguments& p) {
  using O = Operands<scheme>;
  if (p.k * O::activation_bits / kByteBits % kChunk || p.k * O::weight_bits / kByteBits % kChunk) return kInvalidArgument;
  if constexpr (O::supported) {
    switch (p.tile) {
      case 0:
        return launch_gemm<scheme, Tile0>(p);
      case 1:
        return launch_gemm<scheme, Tile1>(p);
      case 2:
        return launch_gemm<scheme, Tile2>(p);
      case 3:
        return launch_gemm<scheme, Tile3>(p);
      case kWarpgroupTile:
      case kWarpgroupTile + 1:
        return launch_warpgroup_gemm(p);
    }
  }
  return kInvalidArgument;  // also what the architecture lacks
}

}  // namespace

extern "C" int quantvggt_gemm(const GemmArguments* arguments) {
  const GemmArguments& p = *arguments;
  if (p.m < 0 || p.n <= 0 || p.k <= 0 || p.k > kLargestDepth) return kInvalidArgument;
  if (p.output_dtype < kFloat32 || p.output_dtype > kInt32) return kInvalidArgument;
  if (p.m == 0) return 0;
  switch (p.scheme) {
    case kW4A4:
      return launch_scheme<kW4A4>(p);
    case kW4A4Widened:
      return launch_scheme<kW4A4Widened>(p);
    case kW4A8:
      return launch_scheme<kW4A8>(p);
    case kW8A8:
      return launch_scheme<kW8A8>(p);
  }
  return kInvalidArgument;
}
