// The kernels' instructions on a CPU, so that their own source can be tested without a GPU.
//
// Blocks run one after another; the threads of a block are fibers that change at barriers and at warp instructions.
// Matrix instructions follow the fragment layouts of the PTX ISA ("Matrix Fragments for mma.m16n8k32", "...k64", and
// "ldmatrix"). Shared memory starts poisoned. Two schedules bracket what hardware may do: threads in rising order with
// copies that arrive at once, and threads in falling order with copies that arrive no sooner than they are waited for.
// A missing barrier, a missing wait or a stage that is refilled too early gives a wrong result in one of them.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <vector>

#include "fiber.h"

#define __global__
#define __device__
#define __host__
#define __launch_bounds__(...)

using Stream = void*;

constexpr bool kHasInt4Mma = true;  // every path is compiled: a CPU emulates them all
constexpr bool kWidensInt4 = true;
constexpr bool kHasWarpgroupMma = true;

namespace emulation {

constexpr int kWarp = 32;
enum Error { kDeadlock = -2, kMisaligned = -3, kBadLaunch = -4, kUnpublished = -5 };

struct Copy {
  void* shared;
  const void* global;
  bool valid, arrived;
  void arrive() {
    if (!arrived) valid ? std::memcpy(shared, global, 16) : std::memset(shared, 0, 16);
    arrived = true;
  }
};

// One lane's part in an instruction of a warpgroup; the 4 warps do not depend on each other.
struct WarpgroupProduct {
  int32_t* d;
  const uint32_t* a;  // read when it is performed, like everything else
  uint64_t b;
};

struct Thread {
  Fiber fiber;
  bool finished = false;
  std::deque<std::vector<Copy>> groups;    // committed copies, oldest first
  std::vector<Copy> open;                  // not committed yet
  bool unpublished = false;                // copies arrived that products may not see yet
  std::vector<WarpgroupProduct> products;  // started and not waited for
};

struct Warp {
  void* lane[kWarp] = {};
  int arrived = 0;
  uint64_t generation = 0;
};

struct Block {
  std::vector<Thread> threads;
  std::vector<Warp> warps;
  unsigned char* shared = nullptr;
  unsigned current = 0, live = 0, waiting = 0;
  uint64_t generation = 0, progress = 0;
  int error = 0;
};

struct Index {
  unsigned x = 0;
};

// What is told of a launch instead of running it, so that another interpreter runs it.
using Recorder = void (*)(const void* kernel, unsigned blocks, unsigned threads, unsigned shared_bytes,
                          const void* arguments);

inline Recorder recorder = nullptr;
inline Block* block = nullptr;
inline bool falling = false;  // the schedule: falling order and late copies, or rising order and early ones

inline void pass() { block->threads[block->current].fiber.leave(); }

// Every lane of the warp brings a T; the last to arrive performs the instruction for all of them.
template <class T, class Instruction>
void warp_instruction(T& mine, Instruction instruction) {
  Block& b = *block;
  Warp& warp = b.warps[b.current / kWarp];
  warp.lane[b.current % kWarp] = &mine;
  if (++warp.arrived == kWarp) {
    T* lanes[kWarp];
    for (int lane = 0; lane < kWarp; ++lane) lanes[lane] = static_cast<T*>(warp.lane[lane]);
    instruction(lanes);
    warp.arrived = 0;
    ++warp.generation;
    ++b.progress;
    return;
  }
  const uint64_t generation = warp.generation;
  while (warp.generation == generation) pass();
}

inline int sign_extended(uint32_t bits, int width) {
  return static_cast<int32_t>(bits << (32 - width)) >> (32 - width);
}

struct Product {
  int32_t* d;
  const uint32_t *a, *b;
};

// mma.m16n8k(256 / bits): a lane's words hold `32 / bits` codes each. A: words 0 and 2 are of row lane / 4, words 1 and
// 3 of row lane / 4 + 8; words 2 and 3 are of the second half of the depth. B: both words of column lane / 4.
template <int bits>
void multiply(Product* const (&lanes)[kWarp]) {
  constexpr int per_word = 32 / bits, depth = 8 * per_word;
  int8_t a[16][depth], b[8][depth];
  for (int lane = 0; lane < kWarp; ++lane) {
    const int group = lane / 4, first = lane % 4 * per_word;
    for (int word = 0; word < 4; ++word) {
      for (int i = 0; i < per_word; ++i) {
        const int k = first + i + word / 2 * (depth / 2);
        a[group + word % 2 * 8][k] = sign_extended(lanes[lane]->a[word] >> (bits * i), bits);
        if (word < 2)
          b[group][first + i + word * (depth / 2)] = sign_extended(lanes[lane]->b[word] >> (bits * i), bits);
      }
    }
  }
  for (int lane = 0; lane < kWarp; ++lane) {
    for (int i = 0; i < 4; ++i) {
      const int row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
      int32_t sum = 0;
      for (int k = 0; k < depth; ++k) sum += a[row][k] * b[column][k];
      lanes[lane]->d[i] += sum;
    }
  }
}

// Runs all threads to their end, or until none of them can go on.
inline int run_threads(Block& b) {
  while (b.live > 0 && b.error == 0) {
    const uint64_t progress = b.progress;
    const unsigned count = static_cast<unsigned>(b.threads.size());
    for (unsigned i = 0; i < count && b.error == 0; ++i) {
      b.current = falling ? count - 1 - i : i;
      if (!b.threads[b.current].finished) b.threads[b.current].fiber.enter();
    }
    if (b.live > 0 && b.progress == progress) return kDeadlock;
  }
  return b.error;
}

}  // namespace emulation

inline emulation::Index threadIdx_of() { return {emulation::block->current}; }
inline emulation::Index blockIdx, blockDim;
#define threadIdx threadIdx_of()

struct Half {
  _Float16 value;
};
struct BFloat16 {
  uint16_t bits;
};

inline float to_float(float value) { return value; }
inline float to_float(Half value) { return static_cast<float>(value.value); }
inline float to_float(BFloat16 value) {
  const uint32_t bits = uint32_t{value.bits} << 16;
  float result;
  std::memcpy(&result, &bits, 4);
  return result;
}

template <class T>
T from_float(float value);
template <>
inline float from_float<float>(float value) {
  return value;
}
template <>
inline Half from_float<Half>(float value) {
  return {static_cast<_Float16>(value)};
}
template <>
inline BFloat16 from_float<BFloat16>(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  if (std::isnan(value)) return {static_cast<uint16_t>(bits >> 16 | 0x40)};
  return {static_cast<uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16)};
}

inline int round_half_even(float value) { return static_cast<int>(std::nearbyint(value)); }

inline float with_sign_of_byte(float value, uint32_t word, int place) {
  return (word >> (8 * place + 7) & 1) != 0 ? -value : value;
}

inline uint32_t pick_bytes(uint32_t low, uint32_t high, uint32_t selector) {
  const uint64_t bytes = uint64_t{high} << 32 | low;
  uint32_t picked = 0;
  for (int i = 0; i < 4; ++i) picked |= static_cast<uint32_t>(bytes >> 8 * (selector >> 4 * i & 7) & 0xFF) << 8 * i;
  return picked;
}

inline void synchronize_block() {
  using namespace emulation;
  Block& b = *block;
  if (++b.waiting == b.live) {
    b.waiting = 0;
    ++b.generation;
    ++b.progress;
    return;
  }
  const uint64_t generation = b.generation;
  while (b.generation == generation) pass();
}

inline void publish_to_products() { emulation::block->threads[emulation::block->current].unpublished = false; }

inline uint32_t shared_address(const void* pointer) {
  return static_cast<uint32_t>(static_cast<const unsigned char*>(pointer) - emulation::block->shared);
}

inline void synchronize_warp() {
  int nothing = 0;
  emulation::warp_instruction(nothing, [](int* const(&)[emulation::kWarp]) {});
}

inline float shuffle_xor(float value, int mask) {
  struct Lane {
    float value, result;
    int mask;
  } mine{value, 0.0f, mask};
  emulation::warp_instruction(mine, [](Lane* const(&lanes)[emulation::kWarp]) {
    for (int lane = 0; lane < emulation::kWarp; ++lane) lanes[lane]->result = lanes[lane ^ lanes[lane]->mask]->value;
  });
  return mine.result;
}

inline unsigned char* shared_memory() { return emulation::block->shared; }

inline void copy_async(void* shared, const void* global, bool valid) {
  using namespace emulation;
  Copy copy{shared, global, valid, false};
  if (reinterpret_cast<uintptr_t>(shared) % 16 || reinterpret_cast<uintptr_t>(global) % 16) block->error = kMisaligned;
  if (!falling) copy.arrive();
  block->threads[block->current].open.push_back(copy);
}

inline void commit_copies() {
  emulation::Thread& thread = emulation::block->threads[emulation::block->current];
  thread.groups.push_back(std::move(thread.open));
  thread.open.clear();
}

template <int pending>
void wait_for_copies() {
  emulation::Thread& thread = emulation::block->threads[emulation::block->current];
  for (; thread.groups.size() > pending; thread.groups.pop_front()) {
    for (emulation::Copy& copy : thread.groups.front()) {
      copy.arrive();
      thread.unpublished = true;
    }
  }
}

inline void load_matrices(uint32_t (&word)[4], const void* shared_row) {
  using namespace emulation;
  struct Lane {
    uint32_t* word;
    const unsigned char* row;
  } mine{word, static_cast<const unsigned char*>(shared_row)};
  if (reinterpret_cast<uintptr_t>(shared_row) % 16) block->error = kMisaligned;
  warp_instruction(mine, [](Lane* const(&lanes)[kWarp]) {
    for (int lane = 0; lane < kWarp; ++lane) {
      for (int matrix = 0; matrix < 4; ++matrix) {
        std::memcpy(&lanes[lane]->word[matrix], lanes[8 * matrix + lane / 4]->row + 4 * (lane % 4), 4);
      }
    }
  });
}

inline void multiply_int8(int32_t (&d)[4], const uint32_t* a, const uint32_t* b) {
  emulation::Product mine{d, a, b};
  emulation::warp_instruction(mine, emulation::multiply<8>);
}

inline void multiply_int4(int32_t (&d)[4], const uint32_t* a, const uint32_t* b) {
  emulation::Product mine{d, a, b};
  emulation::warp_instruction(mine, emulation::multiply<4>);
}

namespace emulation {

// wgmma.mma_async.m64n128k32: each warp has 16 of the rows, in the left operand's layout of mma.m16n8k32. The right
// operand is read through its descriptor: K-major rows of 128 bytes in the 128-byte swizzle, which xors bits 4 to 6 of
// an address with bits 7 to 9.
inline void perform(WarpgroupProduct& mine) {
  warp_instruction(mine, [](WarpgroupProduct* const(&lanes)[kWarp]) {
    const uint64_t descriptor = lanes[0]->b;
    const uint32_t start = (descriptor & 0x3FFF) << 4, group_bytes = (descriptor >> 32 & 0x3FFF) << 4;
    if (descriptor >> 62 != 1 || (descriptor >> 49 & 7) != 0) block->error = kMisaligned;
    static int8_t b[128][32];
    for (int row = 0; row < 128; ++row) {
      for (int k = 0; k < 32; ++k) {
        const uint32_t address = start + row / 8 * group_bytes + row % 8 * 128 + k;
        b[row][k] = static_cast<int8_t>(block->shared[address ^ (address >> 7 & 7) << 4]);
      }
    }
    int8_t a[16][32];
    for (int lane = 0; lane < kWarp; ++lane) {
      for (int word = 0; word < 4; ++word) {
        for (int i = 0; i < 4; ++i) {
          a[lane / 4 + word % 2 * 8][lane % 4 * 4 + i + word / 2 * 16] =
              static_cast<int8_t>(lanes[lane]->a[word] >> (8 * i));
        }
      }
    }
    for (int lane = 0; lane < kWarp; ++lane) {
      for (int i = 0; i < 64; ++i) {
        const int row = lane / 4 + i / 2 % 2 * 8, column = i / 4 * 8 + lane % 4 * 2 + i % 2;
        int32_t sum = 0;
        for (int k = 0; k < 32; ++k) sum += a[row][k] * b[column][k];
        lanes[lane]->d[i] += sum;
      }
    }
  });
}

}  // namespace emulation

template <class Word, int count>
void keep(Word (&)[count]) {}
inline void begin_products() {}
inline void commit_products() {}

inline void wait_for_products() {
  using namespace emulation;
  std::vector<WarpgroupProduct> products = std::move(block->threads[block->current].products);
  for (WarpgroupProduct& product : products) perform(product);
}

inline void multiply_warpgroup(int32_t (&d)[64], const uint32_t (&a)[4], uint64_t b) {
  using namespace emulation;
  for (const Thread& thread : block->threads) {
    if (thread.unpublished) block->error = kUnpublished;
  }
  WarpgroupProduct product{d, a, b};
  if (falling) {
    block->threads[block->current].products.push_back(product);
  } else {
    perform(product);
  }
}

template <class Arguments>
int launch(void (*kernel)(Arguments), unsigned blocks, unsigned threads, unsigned shared_bytes, Stream,
           const Arguments& arguments) {
  using namespace emulation;
  if (blocks == 0 || threads == 0 || threads > 1024 || threads % kWarp || shared_bytes > 227 * 1024) return kBadLaunch;
  if (recorder != nullptr) {
    recorder(reinterpret_cast<const void*>(kernel), blocks, threads, shared_bytes, &arguments);
    return 0;
  }
  blockDim.x = threads;
  for (blockIdx.x = 0; blockIdx.x < blocks; ++blockIdx.x) {
    Block b;
    b.threads.resize(threads);
    b.warps.resize(threads / kWarp);
    void* shared = nullptr;
    if (posix_memalign(&shared, 1024, shared_bytes) != 0) return kBadLaunch;
    std::memset(shared, 0xCB, shared_bytes);
    b.shared = static_cast<unsigned char*>(shared);
    b.live = threads;
    block = &b;
    for (Thread& thread : b.threads) {
      thread.fiber.start([&b, &thread, kernel, &arguments] {
        kernel(arguments);
        thread.finished = true;
        --b.live;
        ++b.progress;
        if (b.live > 0 && b.waiting == b.live) {  // those who left are not waited for
          b.waiting = 0;
          ++b.generation;
        }
      });
    }
    const int error = run_threads(b);
    block = nullptr;
    std::free(shared);
    if (error != 0) return error;
  }
  return 0;
}

inline const char* error_name(int error) {
  switch (error) {
    case emulation::kDeadlock:
      return "no thread can go on: a barrier or warp instruction that not all threads reach";
    case emulation::kMisaligned:
      return "an address that must be a multiple of 16 is not";
    case emulation::kUnpublished:
      return "a warpgroup product may not see copies that were not published";
    case emulation::kBadLaunch:
      return "a grid, block or shared memory of a size that no GPU takes";
  }
  return "unknown error";
}
