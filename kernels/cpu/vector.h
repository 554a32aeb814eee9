// Float vectors as wide as the instruction set that this translation unit is compiled for, and functions on them.
// Everything here has internal linkage: the same names exist once per instruction set.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

namespace {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX2__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif

typedef float Vector __attribute__((vector_size(kLanes * 4)));
typedef int32_t Integers __attribute__((vector_size(kLanes * 4)));

inline Vector load(const float* p) {
    Vector v;
    std::memcpy(&v, p, sizeof v);
    return v;
}

inline Integers load(const int32_t* p) {
    Integers v;
    std::memcpy(&v, p, sizeof v);
    return v;
}

inline void store(float* p, Vector v) { std::memcpy(p, &v, sizeof v); }

inline void store(int32_t* p, Integers v) { std::memcpy(p, &v, sizeof v); }

inline Vector broadcast(float x) { return Vector{} + x; }

inline Vector to_float(Integers v) { return __builtin_convertvector(v, Vector); }

// A vector times as many signs, +1 or -1.
inline Vector with_signs(Vector v, const int8_t* signs) {
#if defined(__AVX512F__)
    const __m512i wide = _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i*)signs));
    const __m512i bit = _mm512_set1_epi32(INT32_MIN);
    return (Vector)_mm512_ternarylogic_epi32((__m512i)v, wide, bit, 0x78);  // v ^ (wide & bit)
#elif defined(__AVX2__)
    int64_t packed;
    std::memcpy(&packed, signs, sizeof packed);
    const Integers wide = (Integers)_mm256_cvtepi8_epi32(_mm_cvtsi64_si128(packed));
    return (Vector)((Integers)v ^ (wide & INT32_MIN));
#else
    Vector wide;
    for (int i = 0; i < kLanes; ++i) wide[i] = signs[i];
    return v * wide;
#endif
}

// a * b + c, rounded once.
inline Vector fma(Vector a, Vector b, Vector c) {
#if defined(__AVX512F__)
    return (Vector)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__AVX2__)
    return (Vector)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#elif defined(__ARM_NEON)
    return (Vector)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#else
    Vector r;
    for (int i = 0; i < kLanes; ++i) r[i] = __builtin_fmaf(a[i], b[i], c[i]);
    return r;
#endif
}

inline Vector maximum(Vector a, Vector b) {
#if defined(__AVX512F__)
    return (Vector)_mm512_max_ps((__m512)a, (__m512)b);
#elif defined(__AVX2__)
    return (Vector)_mm256_max_ps((__m256)a, (__m256)b);
#else
    return a > b ? a : b;
#endif
}

inline Vector minimum(Vector a, Vector b) {
#if defined(__AVX512F__)
    return (Vector)_mm512_min_ps((__m512)a, (__m512)b);
#elif defined(__AVX2__)
    return (Vector)_mm256_min_ps((__m256)a, (__m256)b);
#else
    return a < b ? a : b;
#endif
}

inline Vector absolute(Vector a) { return (Vector)((Integers)a & 0x7fffffff); }

// Round half to even.
inline Integers round_to_integer(Vector v) {
#if defined(__AVX512F__)
    return (Integers)_mm512_cvtps_epi32((__m512)v);
#elif defined(__AVX2__)
    return (Integers)_mm256_cvtps_epi32((__m256)v);
#elif defined(__ARM_NEON)
    return (Integers)vcvtnq_s32_f32((float32x4_t)v);
#else
    for (int i = 0; i < kLanes; ++i) v[i] = __builtin_rintf(v[i]);
    return __builtin_convertvector(v, Integers);
#endif
}

// 64 whole numbers to signed bytes, with saturation.
inline void store_codes(int8_t* p, const Integers (&v)[64 / kLanes]) {
#if defined(__AVX512F__)
    for (int i = 0; i < 4; ++i) _mm_storeu_si128((__m128i*)p + i, _mm512_cvtsepi32_epi8((__m512i)v[i]));
#elif defined(__AVX2__)
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);  // packing keeps to 128-bit lanes
    for (int i = 0; i < 8; i += 4) {
        const __m256i low = _mm256_packs_epi32((__m256i)v[i], (__m256i)v[i + 1]);
        const __m256i high = _mm256_packs_epi32((__m256i)v[i + 2], (__m256i)v[i + 3]);
        const __m256i bytes = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(low, high), order);
        _mm256_storeu_si256((__m256i*)(p + i * kLanes), bytes);
    }
#else
    for (int i = 0; i < 64; ++i) {
        const int32_t code = v[i / kLanes][i % kLanes];
        p[i] = int8_t(code < INT8_MIN ? INT8_MIN : code > INT8_MAX ? INT8_MAX : code);
    }
#endif
}

// Functions of several vectors do one step for all of them before the next: a step waits for the one before, and a
// processor looks only so far ahead for others. Here polynomials with coefficients c, the constant one last.
template <int vectors, int count>
inline void polynomials(const Vector (&x)[vectors], const float (&c)[count], Vector (&p)[vectors]) {
    for (Vector& v : p) v = broadcast(c[0]);
#pragma GCC unroll 8
    for (int i = 1; i < count; ++i)
#pragma GCC unroll 8
        for (int j = 0; j < vectors; ++j) p[j] = fma(p[j], x[j], broadcast(c[i]));
}

// 2^x for x <= 7 with relative error below 3e-7; next to nothing far below. Minimax polynomials of degree 5.
template <int vectors>
inline void powers_of_two(Vector (&x)[vectors]) {
    Vector r[vectors], p[vectors];
#if defined(__AVX512F__)
    constexpr float kPower[] = {1.877575065e-03f, 8.989344351e-03f, 5.582631379e-02f,  // on [0, 1]
                                2.401536256e-01f, 6.931530833e-01f, 9.999999404e-01f};
#pragma GCC unroll 8
    for (int i = 0; i < vectors; ++i)
        r[i] = (Vector)_mm512_reduce_ps((__m512)x[i], _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
    polynomials(r, kPower, p);
#pragma GCC unroll 8
    for (int i = 0; i < vectors; ++i) x[i] = (Vector)_mm512_scalef_ps((__m512)p[i], (__m512)x[i]);
#else
    constexpr float kWhole = 12582912.0f;  // 3 * 2^22: a sum with it is a whole number, in the lowest bits
    constexpr float kPower[] = {1.327645785e-03f, 9.675541222e-03f, 5.550713317e-02f,  // on [-1/2, 1/2]
                                2.402211973e-01f, 6.931469670e-01f, 1.000000072e+00f};
#pragma GCC unroll 8
    for (int i = 0; i < vectors; ++i) {
        r[i] = maximum(x[i], broadcast(-125.0f));
        x[i] = r[i] + broadcast(kWhole);
    }
#pragma GCC unroll 8
    for (int i = 0; i < vectors; ++i) r[i] = r[i] - (x[i] - broadcast(kWhole));
    polynomials(r, kPower, p);
#pragma GCC unroll 8
    for (int i = 0; i < vectors; ++i)
        x[i] = (Vector)((Integers)p[i] + ((Integers)x[i] << 23));  // of the constant's own bits none is left
#endif
}

inline Vector power_of_two(Vector x) {
    Vector v[] = {x};
    powers_of_two(v);
    return v[0];
}

constexpr float kLog2E = 1.44269504f;

// 1 / x to the last bit or two.
inline Vector reciprocal(Vector x) {
#if defined(__AVX512F__)
    const Vector r = (Vector)_mm512_rcp14_ps((__m512)x);
    return fma(fma(-x, r, broadcast(1.0f)), r, r);
#else
    return broadcast(1.0f) / x;
#endif
}

// x / 2 * (1 + erf(x / sqrt 2)); erf by Abramowitz and Stegun 7.1.26, absolute error below 1.5e-7.
template <int vectors>
inline void gelu(Vector (&x)[vectors]) {
    constexpr float kTail[] = {1.061405429f, -1.453152027f, 1.421413741f, -0.284496736f, 0.254829592f};
    Vector t[vectors], power[vectors], tail[vectors];
#pragma GCC unroll 8
    for (int i = 0; i < vectors; ++i) {
        const Vector z = absolute(x[i]) * 0.70710678f;
        t[i] = reciprocal(fma(z, broadcast(0.3275911f), broadcast(1.0f)));
        power[i] = z * z * -kLog2E;
    }
    polynomials(t, kTail, tail);
    powers_of_two(power);
#pragma GCC unroll 8
    for (int i = 0; i < vectors; ++i) {
        const Vector half_tail = tail[i] * t[i] * power[i] * 0.5f;  // (1 - erf z) / 2
        x[i] *= x[i] < 0 ? half_tail : broadcast(1.0f) - half_tail;
    }
}

// x / (1 + exp(-x)), by the exponential of -|x|, which does not overflow.
inline Vector silu(Vector x) {
    const Vector e = power_of_two(absolute(x) * -kLog2E);
    const Vector gain = reciprocal(broadcast(1.0f) + e);
    return x * (x < 0 ? e * gain : gain);
}

// The vector with lanes i and i ^ span exchanged.
template <int span>
inline Vector exchange_lanes(Vector v) {
#if defined(__clang__)
#if defined(__AVX512F__)
    return __builtin_shufflevector(v, v, 0 ^ span, 1 ^ span, 2 ^ span, 3 ^ span, 4 ^ span, 5 ^ span, 6 ^ span,
                                   7 ^ span, 8 ^ span, 9 ^ span, 10 ^ span, 11 ^ span, 12 ^ span, 13 ^ span,
                                   14 ^ span, 15 ^ span);
#elif defined(__AVX2__)
    return __builtin_shufflevector(v, v, 0 ^ span, 1 ^ span, 2 ^ span, 3 ^ span, 4 ^ span, 5 ^ span, 6 ^ span,
                                   7 ^ span);
#else
    return __builtin_shufflevector(v, v, 0 ^ span, 1 ^ span, 2 ^ span, 3 ^ span);
#endif
#else
    Integers index;
    for (int i = 0; i < kLanes; ++i) index[i] = i ^ span;
    return __builtin_shuffle(v, index);
#endif
}

// Folds a vector onto its first lane.
template <class Combine>
inline float fold(Vector v, Combine combine) {
    if (kLanes > 8) v = combine(v, exchange_lanes<8 % kLanes>(v));
    if (kLanes > 4) v = combine(v, exchange_lanes<4 % kLanes>(v));
    v = combine(v, exchange_lanes<2>(v));
    return combine(v, exchange_lanes<1>(v))[0];
}

inline float sum(Vector v) {
    return fold(v, [](Vector a, Vector b) { return a + b; });
}

inline float highest(Vector v) { return fold(v, maximum); }

inline float lowest(Vector v) { return fold(v, minimum); }

// Sums in the lanes with bit `span` clear, differences (other lane minus this one) in those with it set.
template <int span>
inline Vector butterfly_lanes(Vector v) {
    Vector sign;
    for (int i = 0; i < kLanes; ++i) sign[i] = i & span ? -1.0f : 1.0f;
    return fma(v, sign, exchange_lanes<span>(v));
}

}  // namespace
