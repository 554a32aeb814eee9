// Queries or keys out of a qkv matrix: LayerNorm over a head, rotary positions in two dimensions, head-major layout.
#pragma once

#include "interface.h"
#include "parallel.h"
#include "vector.h"

namespace {

inline void normalise_head(const float* x, float* y, int64_t width, const float* weight, const float* bias, float eps) {
    float mean = 0, square = 0;
    for (int64_t i = 0; i < width; ++i) mean += x[i];
    mean /= float(width);
    for (int64_t i = 0; i < width; ++i) square += (x[i] - mean) * (x[i] - mean);
    const float gain = 1.0f / __builtin_sqrtf(square / float(width) + eps);
    for (int64_t i = 0; i < width; ++i) y[i] = (x[i] - mean) * gain * weight[i] + (bias ? bias[i] : 0.0f);
}

// A head whose width is a multiple of the vector's.
inline void normalise_vectors(const float* x, float* y, int64_t width, const float* weight, const float* bias,
                              float eps) {
    Vector total = {};
    for (int64_t i = 0; i < width; i += kLanes) total += load(x + i);
    const float mean = sum(total) / float(width);
    Vector squares = {};
    for (int64_t i = 0; i < width; i += kLanes) {
        const Vector d = load(x + i) - broadcast(mean);
        squares = fma(d, d, squares);
    }
    const float gain = 1.0f / __builtin_sqrtf(sum(squares) / float(width) + eps);
    for (int64_t i = 0; i < width; i += kLanes) {
        const Vector v = (load(x + i) - broadcast(mean)) * gain * load(weight + i);
        store(y + i, bias ? v + load(bias + i) : v);
    }
}

// Each half of a head is a pair of quarters, turned by its angle.
inline void turn_head(const float* x, float* y, const float* cos, const float* sin, int64_t width) {
    const int64_t quarter = width / 4, body = quarter / kLanes * kLanes;
    for (int64_t half = 0; half < width; half += 2 * quarter) {
        for (int64_t i = half; i < half + body; i += kLanes) {
            const Vector a = load(x + i), b = load(x + i + quarter);
            store(y + i, a * load(cos + i) - b * load(sin + i));
            store(y + i + quarter, b * load(cos + i + quarter) + a * load(sin + i + quarter));
        }
        for (int64_t i = half + body; i < half + quarter; ++i) {
            const float a = x[i], b = x[i + quarter];
            y[i] = a * cos[i] - b * sin[i];
            y[i + quarter] = b * cos[i + quarter] + a * sin[i + quarter];
        }
    }
}

inline void norm_rope(const Heads& heads, int threads) {
    constexpr int64_t kTokensPerTask = 16;
    const int64_t width = heads.width, groups = (heads.tokens + kTokensPerTask - 1) / kTokensPerTask;
    parallel(heads.batch * groups, threads, [&](int64_t task) {
        const int64_t batch = task / groups, first = task % groups * kTokensPerTask;
        auto* row = static_cast<float*>(scratch(Scratch::row, size_t(width) * sizeof(float)));
        for (int64_t token = first; token < heads.tokens && token < first + kTokensPerTask; ++token)
            for (int64_t head = 0; head < heads.heads; ++head) {
                const float* x = heads.x + (batch * heads.tokens + token) * heads.stride + head * width;
                float* y = heads.y + ((batch * heads.heads + head) * heads.tokens + token) * width;
                float* normalised = heads.cos ? row : y;
                if (heads.weight) {
                    (width % kLanes ? normalise_head : normalise_vectors)(x, normalised, width, heads.weight,
                                                                          heads.bias, heads.norm_eps);
                    x = normalised;
                }
                const int64_t angle = heads.cos ? token % heads.positions * width : 0;
                if (heads.cos)
                    turn_head(x, y, heads.cos + angle, heads.sin + angle, width);
                else if (!heads.weight)
                    std::memcpy(y, x, size_t(width) * sizeof(float));
            }
    });
}

}  // namespace
