// One token from float to codes: LayerNorm, GELU, Walsh-Hadamard rotation, smoothing, scale, rounding.
// From the rotation on every operation is rounded in the order of kernels/reference.py, so the codes are its bits.
#pragma once

#include <cmath>

#include "interface.h"
#include "vector.h"

namespace {

constexpr int64_t kTileDepth = 64;  // codes that lie together: one row of a matrix tile, one cache line

constexpr int64_t kLine = 16;       // floats of a cache line

constexpr float kSmallestScale = 1e-25f;  // whose reciprocal and remainders keep all their bits
constexpr float kSmallestExtreme = 1e-15f;  // of a smoothed token whose remainders keep theirs
constexpr int kEntering = kLanes > 8 ? 16 : 8;  // vectors that are turned as they are read
constexpr int kUnrolled = 4;  // vectors whose sums and extremes are kept apart, so that none waits for the one before

// Four consecutive codes as one operand.
inline int32_t quad_at(const int8_t* codes) {
    int32_t quad;
    std::memcpy(&quad, codes, sizeof quad);
    return quad;
}

inline int64_t round_up(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

inline float total(const float* x, int64_t n) {
    Vector parts[4] = {};
    int64_t k = 0;
    for (; k + 4 * kLanes <= n; k += 4 * kLanes)
        for (int i = 0; i < 4; ++i) parts[i] += load(x + k + i * kLanes);
    float result = sum((parts[0] + parts[1]) + (parts[2] + parts[3]));
    for (; k < n; ++k) result += x[k];
    return result;
}

inline float total_square(const float* x, int64_t n, float mean) {
    Vector parts[4] = {};
    int64_t k = 0;
    for (; k + 4 * kLanes <= n; k += 4 * kLanes)
        for (int i = 0; i < 4; ++i) {
            const Vector d = load(x + k + i * kLanes) - broadcast(mean);
            parts[i] = fma(d, d, parts[i]);
        }
    float result = sum((parts[0] + parts[1]) + (parts[2] + parts[3]));
    for (; k < n; ++k) result += (x[k] - mean) * (x[k] - mean);
    return result;
}

inline void normalise(const float* x, float* row, const Rows& rows) {
    const int64_t n = rows.features;
    const float *weight = rows.norm_weight, *bias = rows.norm_bias;
    const float mean = total(x, n) / float(n);
    const float gain = 1.0f / __builtin_sqrtf(total_square(x, n, mean) / float(n) + rows.norm_eps);
    int64_t k = 0;
    for (; k + kLanes <= n; k += kLanes) {
        const Vector v = (load(x + k) - broadcast(mean)) * gain * load(weight + k);
        store(row + k, bias ? v + load(bias + k) : v);
    }
    for (; k < n; ++k) row[k] = (x[k] - mean) * gain * weight[k] + (bias ? bias[k] : 0.0f);
}

// Vectors turned by the Hadamard matrix of their number.
template <int radix>
inline void turn(Vector (&v)[radix]) {
#pragma GCC unroll 4
    for (int span = 1; span < radix; span *= 2)
#pragma GCC unroll 16
        for (int i = 0; i < radix; ++i)
            if (!(i & span)) {
                const Vector a = v[i], b = v[i + span];
                v[i] = a + b;
                v[i + span] = a - b;
            }
}

// Turns every `radix` vectors that lie `span` floats apart; what `then` makes of each (from where it lies, and which of
// the `radix` it is) takes its place.
template <int radix, class Then>
inline void rotate_spans(float* x, int64_t size, int64_t span, const Then& then) {
    for (int64_t start = 0; start < size; start += radix * span)
        for (int64_t i = start; i < start + span; i += kLanes) {
            Vector v[radix];
#pragma GCC unroll 16
            for (int j = 0; j < radix; ++j) v[j] = load(x + i + j * span);
            turn(v);
#pragma GCC unroll 16
            for (int j = 0; j < radix; ++j) store(x + i + j * span, then(v[j], i + j * span, j));
        }
}

// The same without turning anything.
template <class Then>
inline void visit(float* x, int64_t size, const Then& then) {
    int64_t i = 0;
    for (; i + kUnrolled * kLanes <= size; i += kUnrolled * kLanes)
#pragma GCC unroll 4
        for (int j = 0; j < kUnrolled; ++j) {
            const int64_t k = i + j * kLanes;
            store(x + k, then(load(x + k), k, j));
        }
    for (; i < size; i += kLanes) store(x + i, then(load(x + i), i, 0));
}

// The spans within a vector.
inline Vector rotate_lanes(Vector v) {
    v = butterfly_lanes<2>(butterfly_lanes<1>(v));
    if (kLanes > 4) v = butterfly_lanes<4 % kLanes>(v);
    if (kLanes > 8) v = butterfly_lanes<8 % kLanes>(v);
    return v;
}

inline Vector as_it_is(Vector v, int64_t, int) { return v; }

// Sylvester's matrix of order `size` (a power of two) in natural order; spans rise as in the reference, from `span` on.
// `then` is done in the last pass, unless that has all registers in use.
template <class Then>
inline void rotate_powers(float* x, int64_t size, int64_t span, const Then& then) {
    for (; size / span >= 16; span *= 16) rotate_spans<16>(x, size, span, as_it_is);
    if (size / span == 4) return rotate_spans<4>(x, size, span, then);
    if (size / span == 2) return rotate_spans<2>(x, size, span, then);
    if (size / span == 8) rotate_spans<8>(x, size, span, as_it_is);
    visit(x, size, then);
}

// The same for fewer floats than a vector holds.
inline void rotate_few(float* x, int64_t size) {
    for (int64_t span = 1; span < size; span *= 2)
        for (int64_t i = 0; i < size; ++i)
            if (!(i & span)) {
                const float a = x[i], b = x[i + span];
                x[i] = a + b;
                x[i + span] = a - b;
            }
}

// A column of x [order, size], or as many as a Real has lanes: it becomes M^T x, one term after the other.
template <class Real>
inline void rotate_column(float* x, int64_t order, int64_t size, const float* matrix) {
    Real given[32], total;
    for (int64_t l = 0; l < order; ++l) std::memcpy(given + l, x + l * size, sizeof(Real));
    for (int64_t j = 0; j < order; ++j) {
        total = matrix[j] * given[0];
        for (int64_t l = 1; l < order; ++l) total = total + matrix[l * order + j] * given[l];
        std::memcpy(x + j * size, &total, sizeof(Real));
    }
}

// The small factor of a rotation.
inline void rotate_base(float* x, int64_t order, int64_t size, const float* matrix) {
    int64_t i = 0;
    for (; i + kLanes <= size; i += kLanes) rotate_column<Vector>(x + i, order, size, matrix);
    for (; i < size; ++i) rotate_column<float>(x + i, order, size, matrix);
}

// A divisor with its reciprocal in two parts: `inverse` is 1 / value rounded, `rest` what that lacks.
template <class Real>
struct Divisor {
    Real value, inverse, rest;
};

// Correctly rounded x / d: the estimate is within a unit of the last place and its remainder exact, so that one
// correction suffices (Markstein, 1990). Faster than the divider, equal to it unless the remainder underflows
// (|x| below 1e-30).
inline Vector quotient(Vector x, const Divisor<Vector>& d) {
    const Vector q = fma(x, d.inverse, x * d.rest);
    return fma(fma(-q, d.value, x), d.inverse, q);
}

inline Divisor<Vector> divisor(Vector value) {
    const Vector one = broadcast(1.0f), inverse = one / value;
    return {value, inverse, fma(-value, inverse, one) * inverse};
}

// What every token is multiplied by, then divided by, channel by channel.
struct Smoothing {
    float gain;
    float factor;             // a power of two that went from the gain to the divisor
    Divisor<float*> divisor;  // [features, filled up with ones to a vector] each; null without smoothing

    static int64_t floats(const Rows& rows) { return rows.smoothing ? 3 * round_up(rows.features, kLanes) : 0; }

    // A gain that is a power of two divides the smoothing instead: not a bit of the quotient changes.
    Smoothing(const Rows& rows, float* memory) : gain(rows.signs ? rows.hadamard_scale : 1), factor(1), divisor{} {
        if (!rows.smoothing) return;
        const int64_t padded = round_up(rows.features, kLanes);
        divisor = {memory, memory + padded, memory + 2 * padded};
        std::memcpy(divisor.value, rows.smoothing, size_t(rows.features) * sizeof(float));
        for (int64_t k = rows.features; k < padded; ++k) divisor.value[k] = 1;
        int exponent;
        const float scale = std::frexp(gain, &exponent) == 0.5f ? 1 / gain : 1;
        gain *= scale;
        factor = 1 / scale;
        for (int64_t k = 0; k < padded; k += kLanes) {
            const auto d = ::divisor(load(divisor.value + k) * scale);
            store(divisor.value + k, d.value);
            store(divisor.inverse + k, d.inverse);
            store(divisor.rest + k, d.rest);
        }
    }

    Divisor<Vector> at(int64_t k) const {
        return {load(divisor.value + k), load(divisor.inverse + k), load(divisor.rest + k)};
    }
};

// The first pass over a token, `count` vectors at a time: GELU, signs, and the spans of the rotation within them.
template <int count, bool with_gelu, bool with_lanes>
inline void enter(const float* x, const int8_t* signs, int64_t n, float* row) {
    constexpr int some = count < 4 ? count : 4;
    for (int64_t k = 0; k < n; k += count * kLanes) {
        Vector v[count];
#pragma GCC unroll 4
        for (int first = 0; with_gelu && first < count; first += some) {
            Vector part[some];
#pragma GCC unroll 4
            for (int i = 0; i < some; ++i) part[i] = load(x + k + (first + i) * kLanes);
            gelu(part);
#pragma GCC unroll 4
            for (int i = 0; i < some; ++i) v[first + i] = part[i];
        }
#pragma GCC unroll 8
        for (int i = 0; i < count; ++i) {
            if (!with_gelu) v[i] = load(x + k + i * kLanes);
            if (signs) v[i] = with_signs(v[i], signs + k + i * kLanes);
            if (with_lanes) v[i] = rotate_lanes(v[i]);
        }
        turn(v);
#pragma GCC unroll 8
        for (int i = 0; i < count; ++i) store(row + k + i * kLanes, v[i]);
    }
}

// Where a token begins.
inline const float* token(const Rows& rows, int64_t index) {
    return rows.x + index * rows.features * (rows.gated ? 2 : 1);
}

// silu(a) * b of a gated token, whose n values of a stand before those of b.
inline void gate(const float* x, int64_t n, float* row) {
    const int64_t body = n / kLanes * kLanes;
    for (int64_t k = 0; k < body; k += kLanes) store(row + k, silu(load(x + k)) * load(x + n + k));
    if (body < n) {
        float a[kLanes] = {}, b[kLanes] = {};
        std::memcpy(a, x + body, size_t(n - body) * sizeof(float));
        std::memcpy(b, x + n + body, size_t(n - body) * sizeof(float));
        store(a, silu(load(a)) * load(b));
        std::memcpy(row + body, a, size_t(n - body) * sizeof(float));
    }
}

// The lowest and the highest value of a token.
struct Extremes {
    float lowest, highest;
};

enum class Division { none, by_reciprocal, exact };

// The last pass over the floats of a token: what is left of the rotation from `span` on, gain, smoothing, extremes.
// Meanwhile half of the token that follows is fetched.
template <bool with_gain, Division division>
inline Extremes smooth(float* row, const Rows& rows, const Smoothing& smoothing, int64_t span, const float* following) {
    const int64_t n = rows.features, body = n / kLanes * kLanes;
    const Vector gain = broadcast(smoothing.gain), factor = broadcast(smoothing.factor);
    Vector low[kUnrolled], high[kUnrolled];
    for (int i = 0; i < kUnrolled; ++i) low[i] = -(high[i] = broadcast(-__builtin_inff()));
    const auto adjust = [&](Vector v, int64_t k) {
        if (division == Division::exact)
            return v * (gain * factor) / (load(smoothing.divisor.value + k) * factor);
        if (with_gain) v *= gain;
        return division == Division::none ? v : quotient(v, smoothing.at(k));
    };
    const auto last = [&](Vector v, int64_t k, int place) {
        if (k % (2 * kLine) == 0) __builtin_prefetch(following + k / 2);
        v = adjust(v, k);
        low[place % kUnrolled] = minimum(low[place % kUnrolled], v);
        high[place % kUnrolled] = maximum(high[place % kUnrolled], v);
        return v;
    };
    if (span)
        rotate_powers(row, n, span, last);
    else
        visit(row, body, last);
    for (int i = 1; i < kUnrolled; ++i) {
        low[0] = minimum(low[0], low[i]);
        high[0] = maximum(high[0], high[i]);
    }
    Extremes found = {lowest(low[0]), highest(high[0])};
    if (body < n) store(row + body, adjust(load(row + body), body));
    for (int64_t k = body; k < n; ++k) {
        found.lowest = row[k] < found.lowest ? row[k] : found.lowest;
        found.highest = row[k] > found.highest ? row[k] : found.highest;
    }
    return found;
}

// A token as it is rounded, to `row`, which is filled up with zeros to `padded` floats.
inline Extremes transform_row(const float* x, const Rows& rows, const Smoothing& smoothing, Division division,
                              float* row, int64_t padded, const float* following) {
    const int64_t n = rows.features;
    if (rows.gated) {
        gate(x, n, row);
        x = row;
    }
    if (rows.norm_weight) {
        normalise(x, row, rows);
        x = row;
    }
    for (int64_t k = n; k < padded; ++k) row[k] = 0;
    const int64_t body = n / kLanes * kLanes;
    const int64_t size = rows.signs ? n / rows.order : 1;
    int64_t span = 0;  // that the rotation has reached
    if (size >= kEntering * kLanes) {
        span = kEntering * kLanes;
        (rows.gelu ? enter<kEntering, true, true> : enter<kEntering, false, true>)(x, rows.signs, body, row);
    } else if (size >= kLanes) {
        span = kLanes;
        (rows.gelu ? enter<1, true, true> : enter<1, false, true>)(x, rows.signs, body, row);
    } else {
        (rows.gelu ? enter<1, true, false> : enter<1, false, false>)(x, rows.signs, body, row);
    }
    if (body < n) {
        float rest[kLanes] = {};
        std::memcpy(rest, x + body, size_t(n - body) * sizeof(float));
        Vector last[] = {load(rest)};
        if (rows.gelu) gelu(last);
        store(rest, last[0]);
        for (int64_t k = body; k < n; ++k) row[k] = rows.signs ? rest[k - body] * float(rows.signs[k]) : rest[k - body];
    }
    if (rows.signs && size < kLanes) {
        for (int64_t i = 0; i < n; i += size) rotate_few(row + i, size);
    } else if (rows.signs && rows.order > 1) {
        for (int64_t i = 0; i < n; i += size) rotate_powers(row + i, size, span, as_it_is);
        span = 0;
    }
    if (rows.signs && rows.order > 1) rotate_base(row, rows.order, size, rows.base);

    const bool with_gain = smoothing.gain != 1;
    const auto quick = with_gain ? smooth<true, Division::by_reciprocal> : smooth<false, Division::by_reciprocal>;
    const auto without = with_gain ? smooth<true, Division::none> : smooth<false, Division::none>;
    const auto last = division == Division::none    ? without
                      : division == Division::exact ? smooth<true, Division::exact>
                                                    : quick;
    return last(row, rows, smoothing, span, following);
}

// Codes of one token, `kTileDepth` at a time to codes, codes + chunk_stride, ...; the last chunk is filled up with
// zeros. Returns the token's scale; `code_sum` receives the sum of its codes.
inline float quantize_row(const float* x, const Rows& rows, const Smoothing& smoothing, float* row, int8_t* codes,
                          int64_t chunk_stride, int32_t* code_sum) {
    const int64_t n = rows.features;
    const int64_t padded = round_up(n, kTileDepth);
    const float* following = x + (rows.gated ? 2 * n : n);
    const Division division = rows.smoothing ? Division::by_reciprocal : Division::none;
    Extremes found = transform_row(x, rows, smoothing, division, row, padded, following);
    if (rows.smoothing && found.lowest > -kSmallestExtreme && found.highest < kSmallestExtreme)
        found = transform_row(x, rows, smoothing, Division::exact, row, padded, following);
    float bottom = found.lowest < 0 ? -found.lowest : found.lowest, top = found.highest;
    if (rows.clip) {
        bottom *= rows.clip[0];
        top *= rows.clip[1];
    }
    const float largest = float(rows.largest_code);
    float scale = (bottom > top ? bottom : top) / largest;
    if (!(scale > 0)) scale = 1;
    const Divisor<Vector> step = divisor(broadcast(scale));
    const Vector least = broadcast(-largest - 1), most = broadcast(largest);
    const bool ordinary = scale > kSmallestScale;
    Integers code_total = {};
    for (int64_t k = 0; k < padded; k += kTileDepth, codes += chunk_stride) {
        Integers chunk[kTileDepth / kLanes];
        __builtin_prefetch(following + (n + k) / 2);  // the other half
        __builtin_prefetch(following + (n + k) / 2 + kLine);
#pragma GCC unroll 16
        for (int i = 0; i < kTileDepth / kLanes; ++i) {
            const Vector v = load(row + k + i * kLanes);
            const Vector steps = ordinary ? quotient(v, step) : v / step.value;
            chunk[i] = round_to_integer(minimum(maximum(steps, least), most));
            code_total += chunk[i];
        }
        store_codes(codes, chunk);
    }
    *code_sum = int32_t(sum(to_float(code_total)));
    return scale;
}

}  // namespace
