// The library's border: the fastest functions that this processor runs.
#include "interface.h"

#define EXPORT extern "C" __attribute__((visibility("default")))

Functions plain_functions();
Functions avx2_functions();

namespace {

Functions functions() {
#if defined(__x86_64__) && !defined(WITHOUT_AVX2)
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return avx2_functions();
#endif
    return plain_functions();
}

}  // namespace

EXPORT void dense_score(const Problem* problem, float* costs, int threads) {
    functions().score(*problem, costs, threads);
}

EXPORT void dense_rate(const Problem* problem, int threads) { functions().rate(*problem, threads); }

EXPORT void dense_improve(const Problem* problem, int iteration, int colour, int threads) {
    functions().improve(*problem, iteration, colour, threads);
}
