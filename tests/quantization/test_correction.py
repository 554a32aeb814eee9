from __future__ import annotations

import torch

from quantization.correction import (
    Moments,
    corrected_bias,
    corrected_scale,
    corrected_weight,
    mean_covariance,
)


def _moments(rounded: torch.Tensor, seen: torch.Tensor, meant: torch.Tensor) -> Moments:
    moments = Moments.empty(seen.shape[1])
    for part in torch.arange(len(seen)).chunk(3):
        moments.add(rounded[part], seen[part], meant[part])
    return moments


def test_without_rounding_nothing_is_corrected() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200, 16, generator=generator, dtype=torch.float64) + 2
    weight = torch.randn(8, 16, generator=generator, dtype=torch.float64)
    moments = _moments(x, x, x)
    torch.testing.assert_close(corrected_weight(weight, *moments.centred(), 0.1), weight)
    torch.testing.assert_close(
        corrected_bias(torch.ones(8), weight, weight, moments), torch.ones(8).double()
    )


def test_the_corrected_layer_is_the_better_one_on_coarse_inputs() -> None:
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(16, 16, generator=generator, dtype=torch.float64)
    x = torch.randn(4000, 16, generator=generator, dtype=torch.float64) @ mixing + 1
    coarse = (x / 2).round() * 2 + 0.5
    weight = torch.randn(8, 16, generator=generator, dtype=torch.float64)
    train, test = slice(0, 3000), slice(3000, None)
    moments = _moments(coarse[train], x[train], x[train])
    corrected = corrected_weight(weight, *moments.centred(), 1e-3)
    bias = corrected_bias(None, weight, corrected, moments)
    plain = (coarse[test] @ weight.T - x[test] @ weight.T).square().mean()
    better = (coarse[test] @ corrected.T + bias - x[test] @ weight.T).square().mean()
    assert better < 0.7 * plain


def test_the_bias_brings_back_the_float_networks_mean_output() -> None:
    generator = torch.Generator().manual_seed(0)
    meant = torch.randn(500, 16, generator=generator, dtype=torch.float64)
    seen = meant + 0.3
    weight = torch.randn(8, 16, generator=generator, dtype=torch.float64)
    quantised = weight.mul(4).round() / 4
    moments = _moments(seen, seen, meant)
    bias = corrected_bias(torch.zeros(8), weight, quantised, moments)
    torch.testing.assert_close(
        (seen @ quantised.T + bias).mean(dim=0), (meant @ weight.T).mean(dim=0)
    )


def test_a_strong_ridge_keeps_the_weight() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(100, 16, generator=generator, dtype=torch.float64)
    weight = torch.randn(8, 16, generator=generator, dtype=torch.float64)
    moments = _moments(x.round(), x, x)
    torch.testing.assert_close(
        corrected_weight(weight, *moments.centred(), 1e9), weight, atol=1e-6, rtol=0
    )


def test_inputs_that_hardly_move_leave_the_weight_nearly_as_it_is() -> None:
    generator = torch.Generator().manual_seed(0)
    x = 1000 * torch.randn(1, 64, generator=generator).expand(2, -1)
    x = x + 1e-4 * torch.randn(2, 64, generator=generator)
    weight = torch.randn(8, 64, generator=generator, dtype=torch.float64)
    corrected = corrected_weight(weight, *_moments(x, x, x).centred(), 1e-3)
    torch.testing.assert_close(corrected, weight, atol=0.05, rtol=0)


def test_each_set_of_inputs_has_its_own_means_in_the_mean_covariance() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(100, 4, generator=generator, dtype=torch.float64)
    gram, cross = mean_covariance([_moments(x, x, x), _moments(2 * x + 5, x, x)], [0.75, 0.25])
    own = (x - x.mean(dim=0)).T @ (x - x.mean(dim=0))
    torch.testing.assert_close(gram, (0.75 + 0.25 * 4) * own)
    torch.testing.assert_close(cross, (0.75 + 0.25 * 2) * own)


def test_the_scale_of_a_row_is_the_best_one_for_its_codes() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(400, 6, generator=generator, dtype=torch.float64)
    weight = torch.randn(3, 6, generator=generator, dtype=torch.float64)
    codes = weight.mul(2).round()
    codes[2] = 0
    given = torch.full((3,), 0.4, dtype=torch.float64)
    scale = corrected_scale(weight, codes, given, _moments(x, x, x))
    assert scale[2] == 0.4
    for row in range(2):
        best = torch.linalg.lstsq(
            (x - x.mean(dim=0)) @ codes[row][:, None], (x - x.mean(dim=0)) @ weight[row][:, None]
        ).solution
        torch.testing.assert_close(scale[row], best[0, 0])
