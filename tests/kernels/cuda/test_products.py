"""Products of torch on codes: their sums on a CPU, and what is assumed of a GPU's 8-bit floats."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from kernels import reference
from kernels.cuda.backend import CudaBackend
from kernels.cuda.products import PRODUCTS, products_of, takes
from kernels.cuda.trial import random_codes, worst_codes
from kernels.fastest import Fastest
from kernels.formats import PRODUCTS as BITS
from tests.kernels.cuda.test_backend import _linear_arguments

INT8, E4M3 = PRODUCTS
CASES = [(name, bits) for name in PRODUCTS for bits in BITS if takes(name, *bits)]
STEP, PROMOTED = 32, 128  # of depth: one instruction, and what goes to float32 together


@pytest.mark.parametrize(("name", "bits"), CASES, ids=str)
@pytest.mark.parametrize(
    ("tokens", "depth", "channels"),
    [(0, 32, 8), (1, 32, 1), (16, 64, 16), (17, 40, 9), (33, 1024, 40)],
)
@pytest.mark.parametrize("worst", [False, True])
def test_sums_are_the_definitions_bit_for_bit(
    name: str, bits: tuple[int, int], tokens: int, depth: int, channels: int, worst: bool
) -> None:
    random = torch.Generator().manual_seed(depth)
    if worst:
        codes, weight = worst_codes(tokens, depth, bits[0]), worst_codes(channels, depth, bits[1])
    else:
        codes = random_codes(tokens, depth, bits[0], random)
        weight = random_codes(channels, depth, bits[1], random)
    stored = reference.pack_int4(weight) if bits[1] == 4 else weight
    expected = reference.integer_matmul(codes, stored, *bits)
    sums = PRODUCTS[name](codes, weight)
    assert sums.shape == expected.shape
    assert torch.equal(sums.double(), expected.double())


def test_codes_of_8_bits_do_not_go_through_8_bit_floats() -> None:
    assert [bits for bits in BITS if takes(E4M3, *bits)] == [(4, 4)]
    assert [bits for bits in BITS if takes(INT8, *bits)] == list(BITS)


def test_only_gpus_with_8_bit_floats_are_offered_them() -> None:
    assert products_of((8, 0)) == products_of((8, 6)) == (INT8,)
    assert products_of((8, 9)) == products_of((9, 0)) == (INT8, E4M3)


def test_every_4_bit_code_is_an_e4m3() -> None:
    codes = torch.arange(-8, 8, dtype=torch.int8)
    assert torch.equal(codes.to(torch.float8_e4m3fn).float(), codes.float())


def _summed(
    codes: torch.Tensor, weight: torch.Tensor, significant: int, promoted: int
) -> torch.Tensor:
    """The product as an H100 is said to compute it: in steps of 32 of depth, whose products and the
    sum so far are cut off below `significant` bits of the largest of them, and again when added up.
    After every `promoted` of depth the sum goes to a float32 one."""
    products = codes.float()[:, None] * weight.float()[None]
    total = torch.zeros(products.shape[:2])
    for first in range(0, products.shape[-1], promoted):
        sum_so_far = torch.zeros(products.shape[:2])
        for step in products[..., first : first + promoted].split(STEP, dim=-1):
            terms = torch.cat([sum_so_far[..., None], step], dim=-1)
            aligned = _cut(terms, terms.abs().amax(-1, keepdim=True), significant)
            sum_so_far = aligned.double().sum(-1).float()
            sum_so_far = _cut(sum_so_far, sum_so_far.abs(), significant)
        total = total + sum_so_far
    return total


def _cut(values: torch.Tensor, largest: torch.Tensor, significant: int) -> torch.Tensor:
    """`values` to multiples of the last of so many bits of `largest`, towards zero."""
    last = torch.exp2(torch.frexp(largest).exponent - float(significant))
    return (values / last).trunc() * last


@pytest.mark.parametrize("depth", [128, 1024, 4096])
@pytest.mark.parametrize("significant", [13, 14])  # what is said, and one bit less
def test_8_bit_floats_promoted_every_128_are_exact_on_4_bit_codes(
    depth: int, significant: int
) -> None:
    random = torch.Generator().manual_seed(0)
    lowest = torch.full((3, depth), -8, dtype=torch.int8)
    for codes, weight in (
        (worst_codes(5, depth, 4), worst_codes(7, depth, 4)),
        (lowest, lowest),
        (lowest, torch.full_like(lowest, 7)),
        (random_codes(9, depth, 4, random), random_codes(6, depth, 4, random)),
    ):
        expected = codes.double() @ weight.double().T
        assert torch.equal(_summed(codes, weight, significant, PROMOTED).double(), expected)


@pytest.mark.parametrize(("significant", "promoted"), [(14, 4096), (11, PROMOTED)])
def test_the_worst_codes_show_a_machine_that_keeps_less(significant: int, promoted: int) -> None:
    codes, weight = worst_codes(5, 4096, 4), worst_codes(7, 4096, 4)
    expected = codes.double() @ weight.double().T
    assert not torch.equal(_summed(codes, weight, significant, promoted).double(), expected)


def _with_times(backend: CudaBackend, folder: Path) -> CudaBackend:
    return dataclasses.replace(backend, times=Fastest(folder, "this", torch.device("cpu")))


hopper = pytest.mark.parametrize("machine", ["sm_90a falling"], indirect=True)


@hopper
@pytest.mark.parametrize("bits", BITS, ids=str)
def test_a_layer_has_the_same_bits_whichever_way_it_goes(
    machine: Any, bits: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    arguments = _linear_arguments(bits, 21, 128, 73, torch.bfloat16)
    expected = reference.linear(*arguments)
    x, weight, scale, bias, activation_bits, weight_bits, *prologue, gain, residual = arguments
    names = [name for name in machine.backend.products if takes(name, *bits)]
    for way in (*map(str, machine.backend.tiles), *names):
        got = machine.backend.linear_by(
            x,
            weight,
            weight_bits,
            (*prologue, activation_bits),
            (scale, bias, gain, residual),
            x.dtype,
            way,
        )
        assert torch.equal(got, expected), way


@hopper
def test_the_first_layer_of_a_shape_measures_all_ways_and_the_next_goes_by_it(
    machine: Any, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    backend = _with_times(machine.backend, tmp_path)
    assert backend.times is not None
    arguments = _linear_arguments((4, 4), 21, 128, 73, torch.float32)
    assert torch.equal(backend.linear(*arguments), reference.linear(*arguments))
    (what,) = backend.times.times
    assert set(backend.times.times[what]) == {*map(str, backend.tiles), *backend.products}
    more = _linear_arguments((4, 4), 30, 128, 73, torch.float32)  # up to twice as many tokens
    assert torch.equal(backend.linear(*more), reference.linear(*more))
    assert len(backend.times.times) == 1
    backend.linear(*_linear_arguments((8, 4), 21, 128, 73, torch.float32))
    other = next(times for name, times in backend.times.times.items() if name != what)
    assert E4M3 not in other
    nothing = _linear_arguments((4, 4), 0, 128, 73, torch.float32)
    assert backend.linear(*nothing).shape == (0, 73)
    assert len(backend.times.times) == 2
