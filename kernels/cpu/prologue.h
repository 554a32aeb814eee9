// One token from float to codes: LayerNorm, GELU, Walsh-Hadamard rotation, smoothing, scale, rounding.
// From the rotation on every operation is rounded in the order of kernels/reference.py, so the codes are its bits.
#pragma once

#include "interface.h"
#include "vector.h"

namespace {

constexpr int64_t kTileDepth = 64;  // codes that lie together: one row of a matrix tile, one cache line

inline int64_t round_up(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

inline void normalise(const float* x, float* row, const Rows& rows) {
    const int64_t n = rows.features;
    const int64_t body = n / kLanes * kLanes;
    Vector partial[4] = {};
    for (int64_t k = 0; k < body; k += kLanes) partial[k / kLanes % 4] += load(x + k);
    float total = sum((partial[0] + partial[1]) + (partial[2] + partial[3]));
    for (int64_t k = body; k < n; ++k) total += x[k];
    const float mean = total / float(n);

    Vector squares[4] = {};
    for (int64_t k = 0; k < body; k += kLanes) {
        const Vector d = load(x + k) - broadcast(mean);
        squares[k / kLanes % 4] = fma(d, d, squares[k / kLanes % 4]);
    }
    total = sum((squares[0] + squares[1]) + (squares[2] + squares[3]));
    for (int64_t k = body; k < n; ++k) total += (x[k] - mean) * (x[k] - mean);
    const float gain = 1.0f / __builtin_sqrtf(total / float(n) + rows.norm_eps);

    for (int64_t k = 0; k < body; k += kLanes) {
        const Vector v = (load(x + k) - broadcast(mean)) * gain * load(rows.norm_weight + k);
        store(row + k, rows.norm_bias ? v + load(rows.norm_bias + k) : v);
    }
    for (int64_t k = body; k < n; ++k)
        row[k] = (x[k] - mean) * gain * rows.norm_weight[k] + (rows.norm_bias ? rows.norm_bias[k] : 0.0f);
}

// `radix` strided vectors turned by a Hadamard matrix of that order, in registers.
template <int radix>
inline void butterflies(float* x, int64_t stride) {
    Vector v[radix];
#pragma GCC unroll 16
    for (int i = 0; i < radix; ++i) v[i] = load(x + i * stride);
#pragma GCC unroll 4
    for (int span = 1; span < radix; span *= 2)
#pragma GCC unroll 16
        for (int i = 0; i < radix; ++i)
            if (!(i & span)) {
                const Vector a = v[i], b = v[i + span];
                v[i] = a + b;
                v[i + span] = a - b;
            }
#pragma GCC unroll 16
    for (int i = 0; i < radix; ++i) store(x + i * stride, v[i]);
}

template <int radix>
inline void rotate_spans(float* x, int64_t size, int64_t span) {
    for (int64_t start = 0; start < size; start += radix * span)
        for (int64_t i = 0; i < span; i += kLanes) butterflies<radix>(x + start + i, span);
}

// Sylvester's matrix of order `size` (a power of two) in natural order; spans rise as in the reference.
inline void rotate_powers(float* x, int64_t size) {
    if (size < kLanes) {
        for (int64_t span = 1; span < size; span *= 2)
            for (int64_t i = 0; i < size; ++i)
                if (!(i & span)) {
                    const float a = x[i], b = x[i + span];
                    x[i] = a + b;
                    x[i + span] = a - b;
                }
        return;
    }
    for (int64_t i = 0; i < size; i += kLanes) {
        Vector v = butterfly_lanes<2>(butterfly_lanes<1>(load(x + i)));
        if (kLanes > 4) v = butterfly_lanes<4 % kLanes>(v);
        if (kLanes > 8) v = butterfly_lanes<8 % kLanes>(v);
        store(x + i, v);
    }
    int64_t span = kLanes;
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
// the divider, equal to it unless the remainder underflows.
inline Vector quotient(Vector x, Vector d, Vector r) {
    Vector q = x * r;
    q = fma(fma(-q, d, x), r, q);
    return fma(fma(-q, d, x), r, q);
}

// Codes of one token, `kTileDepth` at a time to codes, codes + chunk_stride, ...; the last chunk is filled up with
// zeros to `padded`, at least `features` long. Returns the token's scale; `code_sum` receives the sum of its codes.
inline float quantize_row(const float* x, const Rows& rows, float* row, const float* inverse_smoothing, int8_t* codes,
                          int64_t chunk_stride, int32_t* code_sum) {
    const int64_t n = rows.features;
    const int64_t padded = round_up(n, kTileDepth);
    if (rows.norm_weight) {
        normalise(x, row, rows);
        x = row;
    }
    for (int64_t k = n; k < padded; ++k) row[k] = 0;
    const int64_t body = n / kLanes * kLanes;
    for (int64_t k = 0; k < body; k += kLanes) {
        Vector v = load(x + k);
        if (rows.gelu) v = gelu(v);
        if (rows.signs) v *= load_signs(rows.signs + k);
        store(row + k, v);
    }
    if (body < n) {
        float rest[kLanes] = {};
        std::memcpy(rest, x + body, size_t(n - body) * sizeof(float));
        if (rows.gelu) store(rest, gelu(load(rest)));
        for (int64_t k = body; k < n; ++k) row[k] = rows.signs ? rest[k - body] * float(rows.signs[k]) : rest[k - body];
    }
    if (rows.signs) {
        const int64_t size = n / rows.order;
        for (int64_t i = 0; i < rows.order; ++i) rotate_powers(row + i * size, size);
        if (rows.order > 1) rotate_base(row, rows.order, size, rows.base);
    }

    const Vector gain = broadcast(rows.signs ? rows.hadamard_scale : 1.0f);
    Vector low[2], high[2];
    low[0] = low[1] = broadcast(__builtin_inff());
    high[0] = high[1] = broadcast(-__builtin_inff());
    for (int64_t k = 0; k < body; k += kLanes) {
        Vector v = load(row + k) * gain;
        if (rows.smoothing) v = quotient(v, load(rows.smoothing + k), load(inverse_smoothing + k));
        store(row + k, v);
        const int64_t i = k / kLanes % 2;
        low[i] = minimum(low[i], v);
        high[i] = maximum(high[i], v);
    }
    float bottom = lowest(minimum(low[0], low[1])), top = highest(maximum(high[0], high[1]));
    for (int64_t k = body; k < n; ++k) {
        row[k] = rows.smoothing ? row[k] * gain[0] / rows.smoothing[k] : row[k] * gain[0];
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
    Vector total = {};
    for (int64_t k = 0; k < padded; k += kTileDepth) {
        int8_t* chunk = codes + k / kTileDepth * chunk_stride;
        for (int64_t i = 0; i < kTileDepth; i += kLanes) {
            const Vector v = round_even(quotient(load(row + k + i), divisor, inverse));
            const Vector code = minimum(maximum(v, least), most);
            total += code;
            store_codes(chunk + i, code);
        }
    }
    *code_sum = int32_t(sum(total));
    return scale;
}

}  // namespace
