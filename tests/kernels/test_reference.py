from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kernels import reference

SCHEMES = [(4, 4), (8, 4), (8, 8)]  # activation bits, weight bits


def _random_codes(shape: tuple[int, ...], bits: int, seed: int) -> torch.Tensor:
    top = reference.largest_code(bits)
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-top - 1, top + 1, shape, generator=generator).to(torch.int8)


@given(rows=st.integers(1, 5), pairs=st.integers(1, 40), seed=st.integers(0, 99))
def test_unpacking_undoes_packing(rows: int, pairs: int, seed: int) -> None:
    codes = _random_codes((rows, 2 * pairs), 4, seed)
    packed = reference.pack_int4(codes)
    assert packed.dtype == torch.uint8
    assert packed.shape == (rows, pairs)
    assert torch.equal(reference.unpack_int4(packed), codes)


def test_the_low_nibble_holds_the_even_column() -> None:
    assert reference.pack_int4(torch.tensor([[1, -1]], dtype=torch.int8)).tolist() == [[0xF1]]


def test_an_odd_number_of_codes_cannot_be_packed() -> None:
    with pytest.raises(ValueError, match="expected an even number"):
        reference.pack_int4(torch.zeros(2, 3, dtype=torch.int8))


@pytest.mark.parametrize(("activation_bits", "weight_bits"), SCHEMES)
@pytest.mark.parametrize("depth", [2, 1024, 4096, 8192, 1500])
def test_accumulators_are_exact_at_the_extremes(
    activation_bits: int, weight_bits: int, depth: int
) -> None:
    lowest = -reference.largest_code(activation_bits) - 1, -reference.largest_code(weight_bits) - 1
    activation = torch.full((1, depth), lowest[0], dtype=torch.int8)
    weight = torch.full((1, depth), lowest[1], dtype=torch.int8)
    got = reference.integer_matmul(activation, weight, activation_bits, weight_bits)
    assert got.dtype == torch.int32
    assert got.item() == depth * lowest[0] * lowest[1]


@pytest.mark.parametrize(("activation_bits", "weight_bits"), SCHEMES)
def test_accumulators_equal_a_64_bit_integer_product(
    activation_bits: int, weight_bits: int
) -> None:
    activation = _random_codes((2, 7, 4096), activation_bits, 0)
    weight = _random_codes((33, 4096), weight_bits, 1)
    got = reference.integer_matmul(activation, weight, activation_bits, weight_bits)
    assert torch.equal(got.long(), activation.long() @ weight.long().T)


def test_a_token_is_scaled_by_its_own_extreme() -> None:
    codes, scale = reference.quantize_activation(
        torch.tensor([[0.0, 7.0, -3.4], [0.0, 0.0, 0.0]]), 4
    )
    assert scale.tolist() == [[1.0], [1.0]]
    assert codes.tolist() == [[0, 7, -3], [0, 0, 0]]


def test_rounding_is_half_to_even() -> None:
    codes, _ = reference.quantize_activation(torch.tensor([[7.0, 0.5, 1.5, 2.5, -0.5, -1.5]]), 4)
    assert codes.tolist() == [[7, 0, 2, 2, 0, -2]]


def test_clipping_a_token_saturates_at_the_lowest_code() -> None:
    codes, scale = reference.quantize_activation(
        torch.tensor([[-10.0, 7.0]]), 4, clip=torch.tensor([0.5, 1.0])
    )
    assert scale.item() == 1.0
    assert codes.tolist() == [[-8, 7]]


def test_weight_error_is_at_most_half_a_step() -> None:
    weight = torch.randn(16, 64, generator=torch.Generator().manual_seed(0))
    codes, scale = reference.quantize_weight(weight, 4)
    assert ((codes * scale[:, None] - weight).abs() <= scale[:, None] / 2 * 1.0001).all()


def test_an_all_zero_weight_row_quantises_to_zero() -> None:
    codes, scale = reference.quantize_weight(torch.zeros(2, 8), 4)
    assert not codes.any()
    assert (scale > 0).all()


@pytest.mark.parametrize("width", [64, 96, 1024])
def test_rotation_and_smoothing_leave_the_product_unchanged(width: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x, weight = (
        torch.randn(5, width, generator=generator),
        torch.randn(7, width, generator=generator),
    )
    signs = (2 * torch.randint(0, 2, (width,), generator=generator) - 1).to(torch.int8)
    smoothing = torch.rand(width, generator=generator) + 0.5
    rotated_x = reference.transform_activation(x, signs, smoothing)
    rotated_weight = reference.transform_weight(weight, signs, smoothing)
    torch.testing.assert_close(rotated_x @ rotated_weight.T, x @ weight.T, atol=1e-4, rtol=1e-4)


def test_rotation_spreads_an_outlier_over_all_channels() -> None:
    x = torch.zeros(1, 1024)
    x[0, 17] = 100.0
    rotated = reference.rotate(x, torch.ones(1024, dtype=torch.int8))
    torch.testing.assert_close(rotated.abs(), torch.full_like(x, 100 / 32))


def test_signs_are_recovered_from_the_rotation_matrix() -> None:
    signs = (2 * torch.randint(0, 2, (96,), generator=torch.Generator().manual_seed(3)) - 1).to(
        torch.int8
    )
    assert torch.equal(reference.rotation_signs(reference.rotation_matrix(signs)), signs)


@pytest.mark.parametrize("tokens", [1, 63, 64, 130])
def test_8_bit_attention_is_close_to_attention(tokens: int) -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 3, tokens, 64) for _ in range(3))
    # a mean over the tokens is invisible to softmax and would cost the codes everything
    k += 20 * torch.randn(64)
    exact = torch.nn.functional.scaled_dot_product_attention(
        q.double(), k.double(), v.double()
    ).transpose(1, 2)
    got = reference.int8_attention(q, k, v)
    assert (got - exact).norm() < 0.02 * exact.norm()


@pytest.mark.parametrize(("keys", "width"), [(1, 1), (3, 5), (7, 6)])
def test_8_bit_attention_takes_one_head_of_any_size(keys: int, width: int) -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(1, 1, 4, width), *torch.randn(2, 1, 1, keys, width)
    alone = reference.int8_attention(q, k, v)
    both = reference.int8_attention(*(one.repeat(1, 2, 1, 1) for one in (q, k, v)))
    assert torch.equal(both, alone.repeat(1, 1, 2, 1))


def test_8_bit_attention_to_one_key_returns_its_value() -> None:
    v = torch.randn(1, 1, 1, 16)
    got = reference.int8_attention(torch.randn(1, 1, 5, 16), torch.randn(1, 1, 1, 16), v)
    torch.testing.assert_close(got, v.transpose(1, 2).expand(1, 5, 1, 16), atol=1e-6, rtol=1e-2)
