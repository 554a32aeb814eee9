// The first instruction set of the library against plain loops; the exit status is the number of wrong results.
// For processors that only an emulator runs here, where there is no torch to compare with.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <random>
#include <vector>

#include "../../../kernels/cpu/interface.h"

extern "C" const char* quantvggt_path_name(int index);
extern "C" const Kernels* quantvggt_kernels(int index);

namespace {

std::mt19937 generator(0);

int code(int bits) { return int(generator() % (1u << bits)) - (1 << (bits - 1)); }

float uniform() { return float(generator()) / 2147483648.0f - 1; }

int wrong_accumulators(const Kernels& kernels, int rows, int outputs, int features, int weight_bits, bool extreme) {
    std::vector<int8_t> tokens(rows * features), weight(outputs * features);
    std::vector<uint8_t> packed(outputs * features / 2);
    std::vector<int32_t> sums(rows * outputs);
    for (auto& value : tokens) value = int8_t(extreme ? -128 : code(8));
    for (auto& value : weight) value = int8_t(extreme ? -(1 << (weight_bits - 1)) : code(weight_bits));
    for (size_t i = 0; i < packed.size(); ++i)
        packed[i] = uint8_t((weight[2 * i] & 15) | (weight[2 * i + 1] & 15) << 4);
    Rows shape{};
    shape.rows = rows;
    shape.features = features;
    shape.largest_code = 127;
    Product product{};
    product.weight = weight_bits == 4 ? static_cast<const void*>(packed.data()) : weight.data();
    product.outputs = outputs;
    product.accumulators = sums.data();
    product.codes_to_a_byte = 8 / weight_bits;
    kernels.integer_matmul(tokens.data(), shape, product, 2);
    int wrong = 0;
    for (int i = 0; i < rows; ++i)
        for (int j = 0; j < outputs; ++j) {
            int32_t expected = 0;
            for (int k = 0; k < features; ++k) expected += tokens[i * features + k] * weight[j * features + k];
            wrong += sums[i * outputs + j] != expected;
        }
    return wrong;
}

int wrong_codes(const Kernels& kernels, int features, int bits) {
    std::vector<float> x(features), smoothing(features), row(features);
    std::vector<int8_t> signs(features), codes(features);
    for (auto& value : x) value = uniform();
    for (auto& value : smoothing) value = 1.5f + uniform();
    for (auto& value : signs) value = generator() % 2 ? 1 : -1;
    Rows rows{};
    rows.x = x.data();
    rows.rows = 1;
    rows.features = features;
    rows.signs = signs.data();
    rows.smoothing = smoothing.data();
    rows.hadamard_scale = 1 / std::sqrt(float(features));
    rows.order = 1;
    rows.largest_code = (1 << (bits - 1)) - 1;
    float scale = 0;
    kernels.quantize_rows(rows, codes.data(), &scale, 1);

    for (int k = 0; k < features; ++k) row[k] = x[k] * float(signs[k]);
    for (int span = 1; span < features; span *= 2)
        for (int k = 0; k < features; ++k)
            if (!(k & span)) {
                const float a = row[k], b = row[k + span];
                row[k] = a + b;
                row[k + span] = a - b;
            }
    float top = 0;
    for (int k = 0; k < features; ++k) {
        row[k] = row[k] * rows.hadamard_scale;
        row[k] = row[k] / smoothing[k];
        top = std::max(top, std::fabs(row[k]));
    }
    const float largest = float((1 << (bits - 1)) - 1), expected_scale = top / largest;
    int wrong = scale != expected_scale;
    for (int k = 0; k < features; ++k)
        wrong += codes[k] != std::clamp(std::nearbyint(row[k] / expected_scale), -largest - 1, largest);
    return wrong;
}

// Relative error of attention, from exact attention in double precision.
double attention_error(const Kernels& kernels, int64_t tokens, int64_t width) {
    std::vector<float> q(tokens * width), k(q.size()), v(q.size()), y(q.size());
    for (auto* values : {&q, &k, &v})
        for (auto& value : *values) value = 2 * uniform();
    Attention attention{q.data(), k.data(), v.data(), 1, 1, tokens, tokens, width, {}, {}, {}, y.data()};
    for (auto* stride : {attention.q_stride, attention.k_stride, attention.v_stride}) stride[2] = width;
    kernels.int8_attention(attention, 1);
    double error = 0, norm = 0;
    for (int64_t i = 0; i < tokens; ++i) {
        std::vector<double> weight(tokens);
        double total = 0;
        for (int64_t j = 0; j < tokens; ++j) {
            double score = 0;
            for (int64_t d = 0; d < width; ++d) score += double(q[i * width + d]) * k[j * width + d];
            total += weight[j] = std::exp(score / std::sqrt(double(width)));
        }
        for (int64_t d = 0; d < width; ++d) {
            double exact = 0;
            for (int64_t j = 0; j < tokens; ++j) exact += weight[j] / total * v[j * width + d];
            error += (exact - y[i * width + d]) * (exact - y[i * width + d]);
            norm += exact * exact;
        }
    }
    return std::sqrt(error / norm);
}

// Queries that come a few at a time to packed keys and values, against all of them at once.
int wrong_when_packed(const Kernels& kernels, int64_t tokens, int64_t width) {
    std::vector<float> q(tokens * width), k(q.size()), v(q.size()), whole(q.size()), parts(q.size());
    for (auto* values : {&q, &k, &v})
        for (auto& value : *values) value = uniform();
    Attention attention{q.data(), k.data(), v.data(), 1, 1, tokens, tokens, width, {}, {}, {}, whole.data()};
    for (auto* stride : {attention.q_stride, attention.k_stride, attention.v_stride}) stride[2] = width;
    kernels.int8_attention(attention, 1);
    std::vector<char> memory(size_t(kernels.packed_bytes(tokens, width)) + 64);
    attention.packed = memory.data() + (64 - reinterpret_cast<uintptr_t>(memory.data()) % 64);
    kernels.pack_keys_values(attention, 2);
    for (int64_t first = 0; first < tokens; first += 33) {
        Attention some = attention;
        some.q = q.data() + first * width;
        some.queries = std::min<int64_t>(33, tokens - first);
        some.y = parts.data() + first * width;
        kernels.packed_attention(some, 2);
    }
    int wrong = 0;
    for (size_t i = 0; i < whole.size(); ++i) wrong += whole[i] != parts[i];
    return wrong;
}

// Six numbers that lie `step` apart, as kernels/winograd.py changes inputs to factors of products ...
void to_factors(float* v, int step) {
    const float d0 = v[0], d1 = v[step], d2 = v[2 * step], d3 = v[3 * step], d4 = v[4 * step], d5 = v[5 * step];
    const float outer = d4 - d2, inner = d3 - d1, even = d4 - 4 * d2, odd = d3 - 4 * d1;
    v[0] = outer + 4 * (d0 - d2);
    v[step] = even + odd;
    v[2 * step] = even - odd;
    v[3 * step] = outer + 2 * inner;
    v[4 * step] = outer - 2 * inner;
    v[5 * step] = (d5 - d3) - 4 * inner;
}

// ... and products to four outputs.
void to_outputs(float* v, int step) {
    const float m0 = v[0], m1 = v[step], m2 = v[2 * step], m3 = v[3 * step], m4 = v[4 * step], m5 = v[5 * step];
    const float sum = m1 + m2, difference = m1 - m2, far_sum = m3 + m4, far_difference = m3 - m4;
    v[0] = (m0 + sum) + far_sum;
    v[step] = difference + 2 * far_difference;
    v[2 * step] = sum + 4 * far_sum;
    v[3 * step] = (difference + 8 * far_difference) + m5;
}

// Tiles of a convolution, from the second row of tiles on.
int wrong_tiles(const Kernels& kernels, int height, int width, int channels, bool with_bias) {
    const int across = (width + 3) / 4, first = 1, rows = (height + 3) / 4 - first, count = rows * across;
    std::vector<float> map(height * width * channels), made(map.size()), bias(channels);
    std::vector<float> factors(36 * count * channels), products(factors.size());
    for (auto* values : {&map, &bias, &products})
        for (auto& value : *values) value = uniform();
    const float* added = with_bias ? bias.data() : nullptr;
    kernels.tile_factors({map.data(), factors.data(), nullptr, height, width, channels, first, rows}, 2);
    kernels.tile_outputs({made.data(), products.data(), added, height, width, channels, first, rows}, 2);
    int wrong = 0;
    for (int tile = 0; tile < count; ++tile)
        for (int channel = 0; channel < channels; ++channel) {
            const int top = (first + tile / across) * 4, left = tile % across * 4;
            const auto place = [&](int y, int x) { return ((top + y) * width + left + x) * channels + channel; };
            const auto inside = [&](int y, int x) {
                return top + y >= 0 && top + y < height && left + x >= 0 && left + x < width;
            };
            float in[36], out[36];
            for (int i = 0; i < 36; ++i) {
                in[i] = inside(i / 6 - 1, i % 6 - 1) ? map[place(i / 6 - 1, i % 6 - 1)] : 0;
                out[i] = products[(i * count + tile) * channels + channel];
            }
            for (int i = 0; i < 6; ++i) to_factors(in + i, 6), to_outputs(out + i, 6);
            for (int i = 0; i < 6; ++i) to_factors(in + 6 * i, 1), to_outputs(out + 6 * i, 1);
            for (int i = 0; i < 36; ++i) wrong += factors[(i * count + tile) * channels + channel] != in[i];
            for (int y = 0; y < 4; ++y)
                for (int x = 0; x < 4; ++x)
                    if (inside(y, x))
                        wrong += made[place(y, x)] != out[6 * y + x] + (with_bias ? bias[channel] : 0);
        }
    return wrong;
}

}  // namespace

int main() {
    const Kernels* kernels = quantvggt_kernels(0);
    if (!kernels) return std::puts("this processor lacks it"), 1;
    int wrong = 0;
    const int shapes[][3] = {{1, 1, 2}, {7, 33, 66}, {37, 40, 96}, {33, 64, 1500}, {5, 100, 1024}};
    for (const auto& [rows, outputs, features] : shapes)
        for (int bits : {4, 8})
            for (bool extreme : {false, true})
                wrong += wrong_accumulators(*kernels, rows, outputs, features, bits, extreme);
    for (int features : {2, 64, 512, 4096})
        for (int bits : {4, 8}) wrong += wrong_codes(*kernels, features, bits);
    wrong += attention_error(*kernels, 70, 64) > 0.02;
    for (int64_t tokens : {1, 64, 100}) wrong += wrong_when_packed(*kernels, tokens, 64);
    for (bool with_bias : {false, true}) wrong += wrong_tiles(*kernels, 9, 14, 16, with_bias);
    std::printf("%s: %d wrong results\n", quantvggt_path_name(0), wrong);
    return wrong ? 1 : 0;
}
