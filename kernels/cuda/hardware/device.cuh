// The instructions that the kernels use, on a GPU. `emulation/device.cuh` gives the same names to a CPU.
//
// PTX ISA, "Warp-level Matrix Instructions" (ldmatrix, mma) and "Asynchronous copy" (cp.async).
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <utility>

using Stream = cudaStream_t;
using Half = __half;
using BFloat16 = __nv_bfloat16;

// What the one architecture has that an object is compiled for, as `targets.py` says. From sm_90 on, mma on 4-bit
// operands compiles into a call that emulates it with ~190 instructions.
constexpr bool kHasInt4Mma = QUANTVGGT_HAS_INT4_MMA;
constexpr bool kWidensInt4 = !kHasInt4Mma;
constexpr bool kHasWarpgroupMma = QUANTVGGT_HAS_WARPGROUP_MMA;

__device__ inline float to_float(float value) { return value; }
__device__ inline float to_float(Half value) { return __half2float(value); }
__device__ inline float to_float(BFloat16 value) { return __bfloat162float(value); }

template <class T>
__device__ T from_float(float value);
template <>
__device__ inline float from_float<float>(float value) {
  return value;
}
template <>
__device__ inline Half from_float<Half>(float value) {
  return __float2half_rn(value);
}
template <>
__device__ inline BFloat16 from_float<BFloat16>(float value) {
  return __float2bfloat16_rn(value);
}

// To the nearest integer, of two the even one.
__device__ inline int round_half_even(float value) { return __float2int_rn(value); }

// `value`, negated where byte `place` of `word` is negative.
__device__ inline float with_sign_of_byte(float value, uint32_t word, int place) {
  return __uint_as_float(__float_as_uint(value) ^ ((word << (24 - 8 * place)) & 0x80000000u));
}

// Four of the eight bytes of `low` and `high`, by the four digits of `selector` from the lowest on.
__device__ inline uint32_t pick_bytes(uint32_t low, uint32_t high, uint32_t selector) {
  return __byte_perm(low, high, selector);
}

__device__ inline void synchronize_block() { __syncthreads(); }
__device__ inline void synchronize_warp() { __syncwarp(); }

// The value of the lane whose number differs in the bits of `mask`; all lanes of the warp must be there.
__device__ inline float shuffle_xor(float value, int mask) {
  float result;
  asm volatile("shfl.sync.bfly.b32 %0, %1, %2, 31, -1;" : "=f"(result) : "f"(value), "r"(mask));
  return result;
}

__device__ inline unsigned char* shared_memory() {
  extern __shared__ __align__(1024) unsigned char bytes[];
  return bytes;
}

__device__ inline uint32_t shared_address(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

// Starts copying 16 bytes from global to shared memory; writes zeros where not `valid`. Both must be aligned to 16.
__device__ inline void copy_async(void* shared, const void* global, bool valid) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)), "l"(global),
               "r"(valid ? 16 : 0)
               : "memory");
}
__device__ inline void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits until all but this thread's latest `pending` groups of copies have arrived.
template <int pending>
__device__ inline void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
}

// Loads four 8x8 matrices of 16-bit elements. Lane l gives the address of row l % 8 (16 bytes) of matrix l / 8 and
// receives from each matrix the 4 bytes of row l / 4 at byte 4 * (l % 4).
__device__ inline void load_matrices(uint32_t (&word)[4], const void* shared_row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(word[0]), "=r"(word[1]), "=r"(word[2]), "=r"(word[3])
               : "r"(shared_address(shared_row))
               : "memory");
}

// d += a b for 16 rows, 8 columns and 32 codes of 8 bits.
__device__ inline void multiply_int8(int32_t (&d)[4], const uint32_t* a, const uint32_t* b) {
  asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// d += a b for 16 rows, 8 columns and 64 codes of 4 bits.
__device__ inline void multiply_int4(int32_t (&d)[4], const uint32_t* a, const uint32_t* b) {
  asm("mma.sync.aligned.m16n8k64.row.col.s32.s4.s4.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// Makes this thread's writes to shared memory, waited-for copies included, visible to warpgroup products; needed before
// the barrier that the products stand behind.
__device__ inline void publish_to_products() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// d += a b for 64 rows, 128 columns and 32 codes of 8 bits, by the 4 warps of a warpgroup. Warp w holds rows 16 w to
// 16 w + 15 of a and d, laid out as for multiply_int8: d[4 j ...] is columns 8 j to 8 j + 7. `b` describes 128 rows of
// codes in shared memory. It runs asynchronously: nothing may touch d, a or b before wait_for_products.
__device__ inline void multiply_warpgroup(int32_t (&d)[64], const uint32_t (&a)[4], uint64_t b) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n128k32.s32.s8.s8 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
      "}, {%64, %65, %66, %67}, %68, 1;"
      : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3]), "+r"(d[4]), "+r"(d[5]), "+r"(d[6]), "+r"(d[7]), "+r"(d[8]),
        "+r"(d[9]), "+r"(d[10]), "+r"(d[11]), "+r"(d[12]), "+r"(d[13]), "+r"(d[14]), "+r"(d[15]), "+r"(d[16]),
        "+r"(d[17]), "+r"(d[18]), "+r"(d[19]), "+r"(d[20]), "+r"(d[21]), "+r"(d[22]), "+r"(d[23]), "+r"(d[24]),
        "+r"(d[25]), "+r"(d[26]), "+r"(d[27]), "+r"(d[28]), "+r"(d[29]), "+r"(d[30]), "+r"(d[31]), "+r"(d[32]),
        "+r"(d[33]), "+r"(d[34]), "+r"(d[35]), "+r"(d[36]), "+r"(d[37]), "+r"(d[38]), "+r"(d[39]), "+r"(d[40]),
        "+r"(d[41]), "+r"(d[42]), "+r"(d[43]), "+r"(d[44]), "+r"(d[45]), "+r"(d[46]), "+r"(d[47]), "+r"(d[48]),
        "+r"(d[49]), "+r"(d[50]), "+r"(d[51]), "+r"(d[52]), "+r"(d[53]), "+r"(d[54]), "+r"(d[55]), "+r"(d[56]),
        "+r"(d[57]), "+r"(d[58]), "+r"(d[59]), "+r"(d[60]), "+r"(d[61]), "+r"(d[62]), "+r"(d[63])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
#endif
}

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
// Orders this warpgroup's earlier accesses to registers before the products that follow.
__device__ inline void begin_products() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ inline void commit_products() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
__device__ inline void wait_for_products() { asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory"); }
#else
__device__ inline void begin_products() {}
__device__ inline void commit_products() {}
__device__ inline void wait_for_products() {}
#endif

// Keeps a value in its register up to this point. Behind wait_for_products every operand of a product needs it: else
// the compiler, which does not know that a product goes on, gives an operand's register to another value or reads a
// result too early.
template <int count>
__device__ inline void keep(uint32_t (&words)[count]) {
#pragma unroll
  for (int i = 0; i < count; ++i) asm volatile("" : "+r"(words[i])::"memory");
}
template <int count>
__device__ inline void keep(int32_t (&words)[count]) {
#pragma unroll
  for (int i = 0; i < count; ++i) asm volatile("" : "+r"(words[i])::"memory");
}

// Starts `kernel` on `stream` and returns the CUDA error of doing so. Nothing waits, nothing is allocated.
template <class Arguments>
int launch(void (*kernel)(Arguments), unsigned blocks, unsigned threads, unsigned shared_bytes, Stream stream,
           const Arguments& arguments) {
  if (shared_bytes > 48 * 1024) {
    cudaError_t error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes);
    if (error != cudaSuccess) return error;
  }
  kernel<<<blocks, threads, shared_bytes, stream>>>(arguments);
  return cudaGetLastError();
}

inline const char* error_name(int error) { return cudaGetErrorString(static_cast<cudaError_t>(error)); }
