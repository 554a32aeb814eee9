// The library's border: which instruction sets this processor runs, and one entry per operator.
#include <new>

#include "interface.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#if defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace {

#if defined(__x86_64__)

bool bit(unsigned leaf, unsigned subleaf, int index, int number) {
    unsigned registers[4];
    if (!__get_cpuid_count(leaf, subleaf, &registers[0], &registers[1], &registers[2], &registers[3])) return false;
    return registers[index] >> number & 1;
}

bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

bool has_avx_vnni() { return has_avx2() && bit(7, 1, 0, 4); }

bool has_avx512() {
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vnni");
}

// The kernel gives tile registers only to those who ask (arch_prctl ARCH_REQ_XCOMP_PERM for XTILEDATA).
bool has_amx() {
#if defined(__linux__)
    return has_avx512() && bit(7, 0, 3, 24) && bit(7, 0, 3, 25) && syscall(SYS_arch_prctl, 0x1023, 18) == 0;
#else
    return false;
#endif
}

#endif

struct Path {
    const char* name;
    bool (*present)();
    const Kernels* kernels;
};

#if defined(__aarch64__)
bool has_neon() {
#if defined(__linux__)
    return getauxval(AT_HWCAP) & HWCAP_ASIMDDP;
#else
    return true;
#endif
}

const Path paths[] = {{"neon", has_neon, &neon_kernels}, {}};
#else
// An old compiler may have left out the youngest of them.
const Path paths[] = {
#ifndef WITHOUT_AMX
    {"amx", has_amx, &amx_kernels},
#endif
#ifndef WITHOUT_AVX512
    {"avx512", has_avx512, &avx512_kernels},
#endif
#ifndef WITHOUT_AVX_VNNI
    {"avx-vnni", has_avx_vnni, &avx_vnni_kernels},
#endif
#ifndef WITHOUT_AVX2
    {"avx2", has_avx2, &avx2_kernels},
#endif
    {}};
#endif

// 0, or 1 where there was no memory for scratch: C has no exceptions.
template <class Body>
int guarded(const Body& body) {
    try {
        body();
        return 0;
    } catch (const std::bad_alloc&) {
        return 1;
    }
}

}  // namespace

// Names of all instruction sets in this library, fastest first; null behind the last.
EXPORT const char* quantvggt_path_name(int index) {
    return paths[index].name;
}

// Kernels of an instruction set, null if this processor lacks it.
EXPORT const Kernels* quantvggt_kernels(int index) { return paths[index].present() ? paths[index].kernels : nullptr; }

// The operators give 0, or 1 where there was no memory for scratch.

EXPORT int quantvggt_quantize_rows(const Kernels* k, const Rows* rows, int8_t* codes, float* scale, int threads) {
    return guarded([&] { k->quantize_rows(*rows, codes, scale, threads); });
}

EXPORT int quantvggt_integer_matmul(const Kernels* k, const int8_t* codes, const Rows* shape, const Product* product,
                                    int threads) {
    return guarded([&] { k->integer_matmul(codes, *shape, *product, threads); });
}

EXPORT int quantvggt_linear(const Kernels* k, const Rows* rows, const Product* product, int threads) {
    return guarded([&] { k->linear(*rows, *product, threads); });
}

EXPORT int quantvggt_norm_rope(const Kernels* k, const Heads* heads, int threads) {
    return guarded([&] { k->norm_rope(*heads, threads); });
}

EXPORT int64_t quantvggt_packed_bytes(const Kernels* k, int64_t keys, int64_t width) {
    return k->packed_bytes(keys, width);
}

EXPORT int quantvggt_pack_keys_values(const Kernels* k, const Attention* attention, int threads) {
    return guarded([&] { k->pack_keys_values(*attention, threads); });
}

EXPORT int quantvggt_packed_attention(const Kernels* k, const Attention* attention, int threads) {
    return guarded([&] { k->packed_attention(*attention, threads); });
}

EXPORT int quantvggt_int8_attention(const Kernels* k, const Attention* attention, int threads) {
    return guarded([&] { k->int8_attention(*attention, threads); });
}

EXPORT int quantvggt_tile_factors(const Kernels* k, const Tiles* tiles, int threads) {
    return guarded([&] { k->tile_factors(*tiles, threads); });
}

EXPORT int quantvggt_tile_outputs(const Kernels* k, const Tiles* tiles, int threads) {
    return guarded([&] { k->tile_outputs(*tiles, threads); });
}
