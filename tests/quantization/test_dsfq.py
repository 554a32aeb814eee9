from __future__ import annotations

import pytest
import torch

from kernels import FORMATS, QuantizedLinear
from quantization.dsfq import channel_scale, update_activation_maximum


def test_the_first_batch_sets_the_statistic_and_later_ones_move_it_slowly() -> None:
    first, second = torch.full((2, 3, 4), 1.0), torch.full((2, 3, 4), -3.0)
    maximum = update_activation_maximum(None, first)
    assert maximum.tolist() == [1.0] * 4
    torch.testing.assert_close(
        update_activation_maximum(maximum, second), torch.full((4,), 0.95 + 0.05 * 3)
    )


def test_the_maximum_is_over_tokens_and_the_mean_over_frames() -> None:
    activations = torch.tensor([[[1.0], [-5.0]], [[2.0], [3.0]]])
    assert update_activation_maximum(None, activations).tolist() == [4.0]


def test_activation_and_weight_share_the_range() -> None:
    activation, weight = torch.tensor([100.0, 1.0]), torch.tensor([1.0, 1.0])
    scale = channel_scale(activation, weight)
    torch.testing.assert_close(activation / scale, weight * scale)


def test_a_dead_channel_keeps_a_positive_scale() -> None:
    assert channel_scale(torch.zeros(2), torch.ones(2)).min() > 0


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_a_channel_that_no_weight_reads_keeps_a_finite_scale(alpha: float) -> None:
    scale = channel_scale(torch.tensor([4.0, 0.0]), torch.zeros(2), alpha)
    assert scale.isfinite().all()
    assert scale.min() > 0


def test_smoothing_lowers_the_error_where_one_channel_dominates() -> None:
    generator = torch.Generator().manual_seed(0)
    x, weight = torch.randn(64, 128, generator=generator), torch.randn(32, 128, generator=generator)
    x[:, 5] *= 30
    exact = x @ weight.T
    scale = channel_scale(x.abs().amax(dim=0), weight.abs().amax(dim=0))
    plain = (QuantizedLinear.from_float(FORMATS["w4a4"], weight)(x) - exact).norm()
    smoothed = (
        QuantizedLinear.from_float(FORMATS["w4a4"], weight, smoothing=scale)(x) - exact
    ).norm()
    assert smoothed < 0.8 * plain
