// The integer matrix product for Hopper's warpgroup instructions (sm_90a), with the epilogue of `gemm.cu`.
//
// It computes the transpose: wgmma takes its left operand from registers, where 4-bit weights are widened on the way
// from shared memory, and its right operand, codes of one byte, straight from shared memory. So a block's tile is 128
// channels x 128 or 256 tokens, each of its two warpgroups owning 64 channels; the result is turned in shared memory.
#include <device.cuh>

#include "arguments.h"
#include "operands.cuh"
#include "raster.cuh"
#include "slices.cuh"
#include "staged.cuh"

namespace {

constexpr int kThreads = 256;
constexpr int kChannels = 128;          // of a tile
constexpr int kTokensPerProduct = 128;  // of one warpgroup instruction
constexpr int kDepth = 128;             // codes of a slice: one row of the swizzled layout
constexpr int kSteps = kDepth / 32;

// PTX ISA, "Matrix Descriptor Format", for rows of 128 bytes, K-major, in the 128-byte swizzle: chunks of 16 bytes are
// xor-ed with the row modulo 8, as `swizzle<8>` does. Groups of 8 rows follow each other at 1024 bytes, which every
// matrix is aligned to; the leading offset is not used.
[[maybe_unused]] __device__ uint64_t describe(const unsigned char* rows, int first_byte) {
  const uint64_t address = (shared_address(rows) + first_byte) >> 4;
  return address | uint64_t{1} << 16 | uint64_t{1024 >> 4} << 32 | uint64_t{1} << 62;
}

template <int weight_bits, int tokens_>
struct Layout {
  static constexpr int tokens = tokens_, products = tokens / kTokensPerProduct;
  static constexpr int weight_chunks = kDepth * weight_bits / kByteBits / kChunk, activation_chunks = kDepth / kChunk;
  static constexpr int activation_stage = tokens * kDepth;
  static constexpr int stage_bytes = activation_stage + kChannels * weight_chunks * kChunk;
  // Two blocks of the smaller tile fit on a multiprocessor: one stores its result while the other multiplies.
  static constexpr int resident = tokens == kTokensPerProduct ? 2 : 1;
  static constexpr int stages = resident == 2 && weight_bits == kByteBits ? 3 : 4;
  static constexpr int shared_bytes = stages * stage_bytes;
  static constexpr int shift = weight_bits == kPackedBits ? kWidening : 0;  // of codes that were widened to 16 times themselves
  static_assert(stage_bytes % 1024 == 0, "the swizzle repeats every 1024 bytes");
  static_assert(StagedTile<tokens, kChannels, kThreads, 4, 0>::bytes <= shared_bytes, "the result fits where the ring was");
};

// The weights of a warp's 16 channels in one slice, as wgmma takes them: its layout is that of the left operand of
// mma.m16n8k32, so that 4-bit weights meet activations in the kEvenOdd layout.
struct WeightFragments {
  uint32_t word[kSteps][4];

  template <int weight_bits>
  __device__ void load(const unsigned char* stage, const LaneRow<kDepth * weight_bits / kByteBits / kChunk>& row) {
    uint32_t loaded[4];
    if constexpr (weight_bits == kByteBits) {
#pragma unroll
      for (int step = 0; step < kSteps; ++step) load_matrices(word[step], row.at(stage, 0, 2 * step));
    } else {
#pragma unroll
      for (int pair = 0; pair < kSteps / 2; ++pair) {
        load_matrices(loaded, row.at(stage, 0, 2 * pair));
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          for (int i = 0; i < 2; ++i) {
            word[2 * pair + half][i] = low_nibbles(loaded[2 * half + i]);
            word[2 * pair + half][i + 2] = high_nibbles(loaded[2 * half + i]);
          }
        }
      }
    }
  }
};

template <int weight_bits, int tokens>
__global__ void __launch_bounds__(kThreads, Layout<weight_bits, tokens>::resident) warpgroup_gemm_kernel(const GemmArguments p) {
  using L = Layout<weight_bits, tokens>;
  const TileOrigin<tokens, kChannels> origin(p);
  SliceCopy<tokens, L::activation_chunks, kThreads> activations(p.activation, p.m, p.k, origin.token);
  SliceCopy<kChannels, L::weight_chunks, kThreads> weights(p.weight, p.n, p.k * weight_bits / kByteBits, origin.channel);
  const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const LaneRow<L::weight_chunks> row(warp * 16 + lane % 16, lane / 16);

  unsigned char* const ring = shared_memory();
  const int slices = static_cast<int>((p.k + kDepth - 1) / kDepth);
  int fetched = 0;
  auto stage = [&](int slice) { return ring + slice % L::stages * L::stage_bytes; };
  auto fetch = [&] {
    if (fetched < slices) {
      activations.fetch_next(stage(fetched));
      weights.fetch_next(stage(fetched) + L::activation_stage);
      ++fetched;
    }
    commit_copies();  // an empty group keeps the count of pending groups right
  };

  int32_t accumulators[L::products][64] = {};
  WeightFragments current, next;
  for (int i = 0; i < L::stages - 1; ++i) fetch();
  wait_for_copies<L::stages - 2>();
  publish_to_products();
  synchronize_block();
  current.load<weight_bits>(ring + L::activation_stage, row);
  for (int slice = 0; slice < slices; ++slice) {
    begin_products();
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
#pragma unroll
      for (int product = 0; product < L::products; ++product) {
        const unsigned char* rows = stage(slice) + product * kTokensPerProduct * kDepth;
        multiply_warpgroup(accumulators[product], current.word[step], describe(rows, 32 * step));
      }
    }
    commit_products();
    if (slice + 1 < slices) {  // while the tensor cores work
      wait_for_copies<L::stages - 3>();
      publish_to_products();
      synchronize_block();  // the next slice has arrived for all, and the one before this was multiplied by all
      fetch();
      next.load<weight_bits>(stage(slice + 1) + L::activation_stage, row);
    }
    wait_for_products();
#pragma unroll
    for (int step = 0; step < kSteps; ++step) keep(current.word[step]);
#pragma unroll
    for (int product = 0; product < L::products; ++product) keep(accumulators[product]);
    current = next;
  }
  wait_for_copies<0>();

  // Lane l holds channels l / 4 and l / 4 + 8, tokens 2 (l % 4) and the next, of 16 x 8 accumulators.
  StagedTile<tokens, kChannels, kThreads, 4, 0> staged(ring);
  synchronize_block();  // all products are done with the ring
  const int channel = warp * 16 + lane / 4, token = lane % 4 * 2;
#pragma unroll
  for (int j = 0; j < tokens / 8; ++j) {
    const int32_t* d = accumulators[j / 16] + j % 16 * 4;
#pragma unroll
    for (int i = 0; i < 4; ++i) staged.put(8 * j + token + i % 2, channel + i / 2 * 8, d[i] >> L::shift);
  }
  synchronize_block();
  for_output_type(p.output_dtype, [&](auto type) {
    staged.template store<typename decltype(type)::type>(p, origin.token, origin.channel);
  });
}

template <int weight_bits, int tokens>
int launch_tile(const GemmArguments& p) {
  if constexpr (!kHasWarpgroupMma) {
    return kInvalidArgument;
  } else {
    const int64_t blocks = ((p.m + tokens - 1) / tokens) * ((p.n + kChannels - 1) / kChannels);
    if (blocks > INT32_MAX) return kInvalidArgument;
    return launch(warpgroup_gemm_kernel<weight_bits, tokens>, static_cast<unsigned>(blocks), kThreads,
                  Layout<weight_bits, tokens>::shared_bytes, static_cast<Stream>(p.stream), p);
  }
}

}  // namespace

int launch_warpgroup_gemm(const GemmArguments& p) {
  const bool wide = p.tile == kWarpgroupTile + 1;
  if (p.scheme == kW4A8) return wide ? launch_tile<kPackedBits, 256>(p) : launch_tile<kPackedBits, 128>(p);
  if (p.scheme == kW8A8) return wide ? launch_tile<kByteBits, 256>(p) : launch_tile<kByteBits, 128>(p);
  return kInvalidArgument;
}
