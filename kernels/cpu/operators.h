// Puts the operators of one instruction set together. Include this from a translation unit compiled for it.
#pragma once

#include "attention.h"
#include "linear.h"
#include "rotary.h"
#include "winograd.h"

namespace {

template <class Isa>
constexpr Kernels operators() {
    return {quantize_rows,
            integer_matmul<Isa>,
            linear<Isa>,
            norm_rope,
            packed_bytes,
            pack_keys_values<Isa>,
            packed_attention<Isa>,
            int8_attention<Isa>,
            tile_factors,
            tile_outputs};
}

}  // namespace
