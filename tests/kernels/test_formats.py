from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kernels import FORMATS, NumberFormat, QuantizedLinear, ops, reference
from kernels.cpu import build
from kernels.formats import (
    ATTENTION_BITS,
    BYTE_BITS,
    DEFINITIONS,
    PACKED,
    PACKED_BITS,
    PRODUCTS,
    ROUNDED_BITS,
    STORED_BITS,
    largest_code,
)
from tests.kernels.rounded import rounded_input

ROOT = Path(__file__).parents[2]
ALL = list(FORMATS.values())
ROUNDED = [known for known in ALL if known.rounds_activations]


def _signs(width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return (2 * torch.randint(0, 2, (width,), generator=generator) - 1).to(torch.int8)


def _layer(number_format: NumberFormat) -> QuantizedLinear:
    torch.manual_seed(0)
    weight, bias = torch.randn(40, 96), torch.randn(40)
    return QuantizedLinear.from_float(number_format, weight, bias, signs=_signs(96))


def test_the_schemes_of_existing_artifacts_and_recipes_are_known() -> None:
    assert {known.name: (known.codes_to_a_byte, known.largest_weight_code) for known in ALL} == {
        "w8a8": (1, 127),
        "w4a8": (2, 7),
        "w4a4": (2, 7),
        "w4a16": (2, 7),
        "w3a4": (2, 3),
        "w2a4": (2, 1),
    }


@pytest.mark.parametrize("known", ALL, ids=lambda known: known.name)
def test_a_name_tells_the_bits_and_storage_has_room_for_them(known: NumberFormat) -> None:
    assert known.name == f"w{known.weight_bits}a{known.activation_bits}"
    assert known.weight_bits <= known.stored_bits
    assert known.stored_bits * known.codes_to_a_byte == BYTE_BITS
    assert known.packed == (known.stored_bits < BYTE_BITS)


def test_only_one_format_leaves_activations_in_float() -> None:
    assert [known.name for known in ALL if not known.rounds_activations] == ["w4a16"]


@pytest.mark.parametrize("known", ALL, ids=lambda known: known.name)
@given(seed=st.integers(0, 999), pairs=st.integers(1, 20))
def test_every_code_survives_its_storage(known: NumberFormat, seed: int, pairs: int) -> None:
    top, generator = known.largest_weight_code, torch.Generator().manual_seed(seed)
    codes = torch.randint(-top - 1, top + 1, (3, 2 * pairs), generator=generator).to(torch.int8)
    stored = reference.stored_weight(codes, known.codes_to_a_byte)
    assert stored.nbytes * known.codes_to_a_byte == codes.numel()
    assert torch.equal(reference.weight_codes(stored), codes)


@pytest.mark.parametrize("known", ALL, ids=lambda known: known.name)
def test_a_layer_has_the_codes_of_its_format_and_uses_the_largest(known: NumberFormat) -> None:
    codes, top = _layer(known).weight_codes(), known.largest_weight_code
    assert codes.abs().amax(dim=1).ge(top).all()
    assert codes.min() >= -top - 1
    assert codes.max() == top


@pytest.mark.parametrize("known", ROUNDED, ids=lambda known: known.name)
def test_the_kernels_multiply_every_format_as_it_is_defined(known: NumberFormat) -> None:
    layer, x = _layer(known), torch.randn(37, 96)
    codes, scale = rounded_input(layer, x)
    assert codes.abs().max() >= largest_code(known.activation_bits)
    exact = codes.long() @ layer.weight_codes().long().T
    bits = {"activation_bits": known.activation_bits, "weight_bits": known.stored_bits}
    assert torch.equal(ops.integer_matmul(codes, layer.weight, **bits).long(), exact)
    expected = reference.scale_accumulators(exact.int(), scale, layer.weight_scale, layer.bias)
    torch.testing.assert_close(layer(x), expected)


def test_stored_tensors_serve_every_activation_width() -> None:
    stored = _layer(FORMATS["w4a4"]).state_dict()
    x = torch.randn(64, 96, generator=torch.Generator().manual_seed(2))
    exact = QuantizedLinear(FORMATS["w4a16"], **stored)(x)
    eight, four = (QuantizedLinear(FORMATS[name], **stored)(x) for name in ("w4a8", "w4a4"))
    assert (eight - exact).norm() < 0.1 * (four - exact).norm()


@pytest.mark.parametrize("bits", range(2, BYTE_BITS + 1))
def test_kernels_take_tokens_of_any_width_so_that_a_format_is_one_more_line(bits: int) -> None:
    layer, x = _layer(FORMATS["w4a8"]), torch.randn(37, 96)
    prologue = (None, None, ops.NORM_EPS, False, layer.signs, None, None)
    stored = (layer.weight, layer.weight_scale, layer.bias, bits, PACKED_BITS)
    arguments = (*stored, *prologue, None, None, x.dtype)
    assert torch.equal(torch.ops.quantvggt.linear(x, *arguments), reference.linear(x, *arguments))


def test_operators_accept_the_widths_of_the_formats_and_no_other() -> None:
    x = torch.randn(2, 8)
    for bits in ROUNDED_BITS:
        assert ops.quantize_rows(x, bits=bits)[0].abs().max() == largest_code(bits)
    for activation_bits, weight_bits in PRODUCTS:
        codes = torch.ones(3, 8, dtype=torch.int8)
        weight = reference.stored_weight(codes, BYTE_BITS // weight_bits)
        bits = {"activation_bits": activation_bits, "weight_bits": weight_bits}
        assert (ops.integer_matmul(codes, weight, **bits) == 8).all()
    for bits in set(range(1, 17)) - set(ROUNDED_BITS):
        with pytest.raises(ValueError, match=f"bits is {bits}; expected one of 4, 8"):
            ops.quantize_rows(x, bits=bits)
    assert STORED_BITS == (PACKED_BITS, BYTE_BITS)


_NATIVE = f"""
#include "formats.h"
static_assert(kByteBits == {BYTE_BITS});
static_assert(kCodesToAByte == {PACKED} && kPackedBits == {PACKED_BITS});
static_assert(kLargestPackedCode == {largest_code(PACKED_BITS)});
static_assert(kLargestWholeCode == {largest_code(BYTE_BITS)} && kAttentionBits == {ATTENTION_BITS});
static_assert(kLargestAttentionCode == {reference.LARGEST_PROBABILITY_CODE});
static_assert(kLargestAttentionCode == (1 << kProbabilityBits) - 1);
static_assert(kLog2OfLargestAttentionCode > 6.988684f && kLog2OfLargestAttentionCode < 6.988685f);
"""


def _compiled(definitions: tuple[str, ...], folder: Path) -> subprocess.CompletedProcess[str]:
    compiler = build.compiler()
    if compiler is None:
        pytest.skip("no C++ compiler")
    source = folder / "native.cpp"
    source.write_text(_NATIVE)
    flags = ("-std=c++17", "-fsyntax-only", "-I", str(ROOT / "kernels"), *definitions)
    return subprocess.run((compiler, *flags, str(source)), capture_output=True, text=True)


def test_native_code_is_compiled_for_these_widths(tmp_path: Path) -> None:
    assert set(DEFINITIONS) <= set(build.FLAGS)
    finished = _compiled(DEFINITIONS, tmp_path)
    assert finished.returncode == 0, finished.stderr


def test_native_code_refuses_widths_that_it_was_not_written_for(tmp_path: Path) -> None:
    other = tuple(flag.replace("CODES_TO_A_BYTE=2", "CODES_TO_A_BYTE=4") for flag in DEFINITIONS)
    assert "there is no native code for these widths" in _compiled(other, tmp_path).stderr


def test_no_other_source_compares_bits_with_a_number() -> None:
    stated = re.compile(r"bits\s*(==|!=|<=|>=|<|>)\s*\d")
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for folder in ("kernels", "model", "quantization", "benchmarks")
        for suffix in ("py", "h", "cpp", "cu", "cuh")
        for path in sorted((ROOT / folder).rglob(f"*.{suffix}"))
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if stated.search(line)
    ]
    assert found == []
