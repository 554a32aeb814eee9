from __future__ import annotations

import torch

from kernels.reference import quantize_activation, quantize_weight
from quantization.clipping import search_activation_clip, search_weight_clip


def test_a_row_with_one_stray_weight_is_clipped_and_an_even_one_is_not() -> None:
    even = torch.linspace(-1, 1, 128)
    stray = 0.1 * torch.randn(128, generator=torch.Generator().manual_seed(0))
    stray[3] = 1.0
    clip = search_weight_clip(torch.stack((even, stray)), 4, torch.ones(128))
    assert clip[0].min() > 0.9
    assert clip[1].max() < 0.9


def test_the_found_clip_never_loses_to_the_whole_range() -> None:
    generator = torch.Generator().manual_seed(0)
    weight, importance = (
        torch.randn(16, 64, generator=generator),
        torch.rand(64, generator=generator),
    )

    def loss(clip: torch.Tensor | None) -> torch.Tensor:
        codes, scale = quantize_weight(weight, 4, clip)
        return ((codes * scale[:, None] - weight).square() * importance).sum(dim=1)

    assert (loss(search_weight_clip(weight, 4, importance)) <= loss(None)).all()


def test_normal_activations_are_worth_clipping_at_four_bits_and_not_at_eight() -> None:
    generator = torch.Generator().manual_seed(0)
    rows, weight = (
        torch.randn(256, 512, generator=generator),
        torch.randn(32, 512, generator=generator),
    )
    four, eight = (search_activation_clip(rows, weight, bits) for bits in (4, 8))
    assert four[0] < 1
    assert eight[0] > four[0]

    def error(clip: torch.Tensor | None) -> torch.Tensor:
        codes, scale = quantize_activation(rows, 4, clip)
        return ((codes * scale - rows) @ weight.T).square().sum()

    assert error(four) < error(None)
