// One token from float to codes: LayerNorm, GELU, Walsh-Hadamard rotation, smoothing, scale, rounding.
// From the rotation on every operation is rounded in the order of kernels/reference.py, so the codes are its bits.
#pragma once

#include "interface.h"
#include "vector.h"

namespace {

constexpr int64_t kTileDepth = 64;  // codes that lie together: one row of a matrix tile, one cache line

constexpr int64_t kLine = 16;       // floats of a cache line

constexpr float kSmallestScale = 1e-25f;  // whose reciprocal and remainders keep all their bits
constexpr int kEntering = 8;  // vectors that are turned as they are read
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

template <int radix>
inline void rotate_spans(float* x, int64_t size, int64_t span) {
    for (int64_t start = 0; start < size; start += radix * span)
        for (int64_t i = start; i < start + span; i += kLanes) {
            Vector v[radix];
#pragma GCC unroll 16
            for (int j = 0; j < radix; ++j) v[j] = load(x + i + j * span);
            turn(v);
#pragma GCC unroll 16
            for (int j = 0; j < radix; ++j) store(x + i + j * span, v[j]);
        }
}

// The spans within a vector.
inline Vector rotate_lanes(Vector v) {
    v = butterfly_lanes<2>(butterfly_lanes<1>(v));
    if (kLanes > 4) v = butterfly_lanes<4 % kLanes>(v);
    if (kLanes > 8) v = butterfly_lanes<8 % kLanes>(v);
    return v;
}

// Sylvester's matrix of order `size` (a power of two) in natural order; spans rise as in the reference, from `span` on.
inline void rotate_powers(float* x, int64_t size, int64_t span) {
    if (size < kLanes) {
        for (; span < size; span *= 2)
            for (int64_t i = 0; i < size; ++i)
                if (!(i & span)) {
                    const float a = x[i], b = x[i + span];
                    x[i] = a + b;
                    x[i + span] = a - b;
                }
        return;
    }
    for (; span * 16 <= size; span *= 16) rotate_spans<16>(x, size, span);
    if (size / span == 8) rotate_spans<8>(x, size, span);
    if (size / span == 4) rotate_spans<4>(x, size, span);
    if (size / span == 2) rotate_spans<2>(x, size, span);
}

// The small factor: x [order, size] becomes M^T x, one term after the other.
inline void rotate_base(float* x, int64_t order, int64_t size, const float* matrix) {
    float column[32];
    for (int64_t i = 0; i < size; ++i) {
        for (int64_t j = 0; j < order; ++j) {
            float total = matrix[j] * x[i];
            for (int64_t l = 1; l < order; ++l) total = total + matrix[l * order + j] * x[l * size + i];
            column[j] = total;
        }
        for (int64_t j = 0; j < order; ++j) x[j * size + i] = column[j];
    }
}

// Correctly rounded x / d from r = 1 / d rounded: two corrections by exact remainders (Markstein, 1990). Faster than
// the divider, equal to it unless the remainder underflows (|x| below 1e-30).
inline Vector quotient(Vector x, Vector d, Vector r) {
    Vector q = x * r;
    q = fma(fma(-q, d, x), r, q);
    return fma(fma(-q, d, x), r, q);
}

// The first pass over a token, `count` vectors at a time: GELU, signs, and the spans of the rotation within them.
template <int count, bool with_gelu, bool with_lanes>
inline void enter(const float* x, const int8_t* signs, int64_t n, float* row) {
    for (int64_t k = 0; k < n; k += count * kLanes) {
        Vector v[count];
#pragma GCC unroll 8
        for (int i = 0; i < count; ++i) {
            v[i] = load(x + k + i * kLanes);
            if (with_gelu) v[i] = gelu(v[i]);
            if (signs) v[i] *= load_signs(signs + k + i * kLanes);
            if (with_lanes) v[i] = rotate_lanes(v[i]);
        }
        turn(v);
#pragma GCC unroll 8
        for (int i = 0; i < count; ++i) store(row + k + i * kLanes, v[i]);
    }
}

// Codes of one token, `kTileDepth` at a time to codes, codes + chunk_stride, ...; the last chunk is filled up with
// zeros to `padded`, at least `features` long. Returns the token's scale; `code_sum` receives the sum of its codes.
inline float quantize_row(const float* x, const Rows& rows, float* row, const float* inverse_smoothing, int8_t* codes,
                          int64_t chunk_stride, int32_t* code_sum) {
    const int64_t n = rows.features;
    const int64_t padded = round_up(n, kTileDepth);
    // The next token is fetched in two passes over this one, evenly, lest they wait for it.
    const auto fetch = [following = x + n](int64_t done, int64_t floats) {
        for (int64_t k = done; k < done + floats; k += 2 * kLine) __builtin_prefetch(following + k / 2);
    };
    if (rows.norm_weight) {
        normalise(x, row, rows);
        x = row;
    }
    for (int64_t k = n; k < padded; ++k) row[k] = 0;
    const int64_t body = n / kLanes * kLanes;
    const int64_t size = rows.signs ? n / rows.order : 1;
    int64_t span = 1;  // that the rotation has reached
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
        if (rows.gelu) store(rest, gelu(load(rest)));
        for (int64_t k = body; k < n; ++k) row[k] = rows.signs ? rest[k - body] * float(rows.signs[k]) : rest[k - body];
    }
    if (rows.signs) {
        for (int64_t i = 0; i < rows.order; ++i) rotate_powers(row + i * size, size, span);
        if (rows.order > 1) rotate_base(row, rows.order, size, rows.base);
    }

    const Vector gain = broadcast(rows.signs ? rows.hadamard_scale : 1.0f);
    const float* smoothing = rows.smoothing;
    Vector low[kUnrolled], high[kUnrolled];
    for (int i = 0; i < kUnrolled; ++i) low[i] = -(high[i] = broadcast(-__builtin_inff()));
    const auto smooth = [&](int64_t k, int i) {
        Vector v = load(row + k) * gain;
        if (smoothing) v = quotient(v, load(smoothing + k), load(inverse_smoothing + k));
        store(row + k, v);
        low[i] = minimum(low[i], v);
        high[i] = maximum(high[i], v);
    };
    int64_t smoothed = 0;
    for (; smoothed + kUnrolled * kLanes <= body; smoothed += kUnrolled * kLanes) {
        fetch(smoothed, kUnrolled * kLanes);
#pragma GCC unroll 4
        for (int i = 0; i < kUnrolled; ++i) smooth(smoothed + i * kLanes, i);
    }
    for (; smoothed < body; smoothed += kLanes) smooth(smoothed, 0);
    for (int i = 1; i < kUnrolled; ++i) {
        low[0] = minimum(low[0], low[i]);
        high[0] = maximum(high[0], high[i]);
    }
    float bottom = lowest(low[0]), top = highest(high[0]);
    for (int64_t k = body; k < n; ++k) {
        row[k] = smoothing ? row[k] * gain[0] / smoothing[k] : row[k] * gain[0];
        bottom = row[k] < bottom ? row[k] : bottom;
        top = row[k] > top ? row[k] : top;
    }

    bottom = bottom < 0 ? -bottom : bottom;
    if (rows.clip) {
        bottom *= rows.clip[0];
        top *= rows.clip[1];
    }
    const float largest = float((1 << (rows.bits - 1)) - 1);
    float scale = (bottom > top ? bottom : top) / largest;
    if (!(scale > 0)) scale = 1;
    const Vector divisor = broadcast(scale), inverse = broadcast(1.0f / scale);
    const Vector least = broadcast(-largest - 1), most = broadcast(largest);
    const bool ordinary = scale > kSmallestScale;
    Integers code_total = {};
    for (int64_t k = 0; k < padded; k += kTileDepth, codes += chunk_stride) {
        Integers chunk[kTileDepth / kLanes];
        fetch(n + k, kTileDepth);
#pragma GCC unroll 16
        for (int i = 0; i < kTileDepth / kLanes; ++i) {
            const Vector v = load(row + k + i * kLanes);
            const Vector steps = ordinary ? quotient(v, divisor, inverse) : v / divisor;
            chunk[i] = round_to_integer(minimum(maximum(steps, least), most));
            code_total += chunk[i];
        }
        store_codes(codes, chunk);
    }
    *code_sum = int32_t(sum(to_float(code_total)));
    return scale;
}

}  // namespace
