// Calls one operator of the CPU kernels once, on one thread, for an instruction counter to watch:
//   instructions PATH quantize_rows ROWS FEATURES LARGEST_CODE                        with rotation and smoothing
//   instructions PATH linear ROWS FEATURES LARGEST_CODE OUTPUTS CODES_TO_A_BYTE       likewise
//   instructions PATH int8_attention QUERIES WIDTH KEYS                               one head
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "../kernels/cpu/interface.h"

extern "C" {
const char* quantvggt_path_name(int index);
const Kernels* quantvggt_kernels(int index);
int quantvggt_quantize_rows(const Kernels*, const Rows*, int8_t* codes, float* scale, int threads);
int quantvggt_linear(const Kernels*, const Rows*, const Product*, int threads);
int quantvggt_int8_attention(const Kernels*, const Attention*, int threads);
}

namespace {

const Kernels* find(const char* path) {
    for (int i = 0; quantvggt_path_name(i); ++i)
        if (!std::strcmp(quantvggt_path_name(i), path)) return quantvggt_kernels(i);
    return nullptr;
}

std::vector<float> values(long count) {
    std::vector<float> v(static_cast<size_t>(count));
    for (size_t i = 0; i < v.size(); ++i) v[i] = float(i % 251) / 125 - 1.001f;
    return v;
}

struct Tokens {
    std::vector<float> x, smoothing;
    std::vector<int8_t> signs;
    Rows rows{};

    Tokens(long count, long features, long largest_code)
        : x(values(count * features)), smoothing(size_t(features), 1.5f), signs(size_t(features), -1) {
        rows.x = x.data();
        rows.rows = count;
        rows.features = features;
        rows.signs = signs.data();
        rows.smoothing = smoothing.data();
        rows.hadamard_scale = 1 / std::sqrt(float(features));
        rows.order = 1;
        rows.largest_code = int(largest_code);
    }
};

void quantize_rows(const Kernels* kernels, long count, long features, long largest_code) {
    const Tokens tokens(count, features, largest_code);
    std::vector<int8_t> codes(tokens.x.size());
    std::vector<float> scale(static_cast<size_t>(count));
    quantvggt_quantize_rows(kernels, &tokens.rows, codes.data(), scale.data(), 1);
}

void linear(const Kernels* kernels, long count, long features, long largest_code, long outputs, long codes_to_a_byte) {
    const Tokens tokens(count, features, largest_code);
    const std::vector<uint8_t> weight(size_t(features * outputs / codes_to_a_byte), 0x5a);
    const std::vector<float> scale(size_t(outputs), 0.1f), bias(size_t(outputs), 0.2f);
    std::vector<float> y(size_t(count * outputs));
    Product product{};
    product.weight = weight.data();
    product.outputs = outputs;
    product.weight_scale = scale.data();
    product.bias = bias.data();
    product.y = y.data();
    product.codes_to_a_byte = int(codes_to_a_byte);
    quantvggt_linear(kernels, &tokens.rows, &product, 1);
}

void int8_attention(const Kernels* kernels, long queries, long width, long keys) {
    const auto q = values(queries * width), k = values(keys * width), v = values(keys * width);
    std::vector<float> y(q.size());
    Attention attention{q.data(), k.data(), v.data(), 1, 1, queries, keys, width, {}, {}, {}, y.data()};
    for (auto* stride : {attention.q_stride, attention.k_stride, attention.v_stride}) stride[2] = width;
    quantvggt_int8_attention(kernels, &attention, 1);
}

}  // namespace

int main(int count, char** arguments) {
    const Kernels* kernels = count > 5 ? find(arguments[1]) : nullptr;
    if (!kernels) return std::fputs("this processor lacks the instruction set\n", stderr), 1;
    const char* name = arguments[2];
    long n[5] = {};
    for (int i = 0; i < 5 && i + 3 < count; ++i) n[i] = std::atol(arguments[i + 3]);
    if (!std::strcmp(name, "quantize_rows")) return quantize_rows(kernels, n[0], n[1], n[2]), 0;
    if (!std::strcmp(name, "linear")) return linear(kernels, n[0], n[1], n[2], n[3], n[4]), 0;
    if (!std::strcmp(name, "int8_attention")) return int8_attention(kernels, n[0], n[1], n[2]), 0;
    return std::fprintf(stderr, "no operator %s\n", name), 1;
}
