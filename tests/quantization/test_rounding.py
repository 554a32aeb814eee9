from __future__ import annotations

import torch
from torch import Tensor

from kernels.reference import quantize_weight
from quantization.rounding import damped, round_by_inputs


def _correlated(tokens: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(width, width, generator=generator, dtype=torch.float64) / width**0.5
    return torch.randn(tokens, width, generator=generator, dtype=torch.float64) @ (mixing + 0.3)


def _output_error(codes: Tensor, scale: Tensor, weight: Tensor, x: Tensor) -> float:
    return float((x @ (codes * scale[:, None] - weight).T).square().sum())


def test_looking_at_correlated_inputs_beats_rounding_to_nearest() -> None:
    x = _correlated(512, 160)
    weight = torch.randn(24, 160, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    nearest, scale = quantize_weight(weight, 4)
    rounded = round_by_inputs(weight, scale, 4, x.T @ x)
    assert _output_error(rounded, scale, weight, x) < 0.5 * _output_error(nearest, scale, weight, x)


def test_with_independent_inputs_of_one_strength_it_is_rounding_to_nearest() -> None:
    weight = torch.randn(8, 64, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    nearest, scale = quantize_weight(weight, 4)
    assert torch.equal(
        round_by_inputs(weight, scale, 4, torch.eye(64, dtype=torch.float64)), nearest
    )


def test_codes_stay_in_range_also_where_the_scale_is_too_small() -> None:
    x = _correlated(128, 32)
    weight = torch.randn(8, 32, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    codes = round_by_inputs(weight, torch.full((8,), 0.05, dtype=torch.float64), 4, x.T @ x)
    assert codes.dtype == torch.int8
    assert (int(codes.min()), int(codes.max())) == (-8, 7)


def test_an_input_that_never_moves_does_no_harm() -> None:
    x = _correlated(128, 32)
    x[:, 5] = 0
    weight = torch.randn(8, 32, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    nearest, scale = quantize_weight(weight, 4)
    codes = round_by_inputs(weight, scale, 4, x.T @ x)
    assert torch.equal(codes[:, 5], nearest[:, 5])


def test_damping_lifts_the_diagonal_by_its_mean() -> None:
    gram = torch.diag(torch.tensor([1.0, 3.0, 0.0]))
    torch.testing.assert_close(damped(gram, 0.3).diagonal(), torch.tensor([1.4, 3.4, 1.0]))
