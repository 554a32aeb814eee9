from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import torch
from PIL import Image

from training.photography import Photography, compress


def picture(size: int = 32) -> torch.Tensor:
    """[1, 3, size, size]: smooth colours with some grain."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, 4, 4, generator=generator)
    smooth = torch.nn.functional.interpolate(
        coarse, size=(size, size), mode="bicubic", align_corners=False
    )
    return (smooth + 0.05 * torch.randn(1, 3, size, size, generator=generator)).clamp(0, 1)


def test_compression_changes_a_picture_much_as_an_encoder_of_quality_50_does() -> None:
    original = picture()
    pixels = (original[0].permute(1, 2, 0) * 255).round().byte().numpy()
    stored = io.BytesIO()
    Image.fromarray(pixels).save(stored, "JPEG", quality=50, subsampling=0)
    with Image.open(stored) as decoded:
        encoded = torch.from_numpy(np.array(decoded)).permute(2, 0, 1)[None] / 255
    ours = compress(original, torch.ones(1))
    lost, lost_by_encoder = (ours - original).square().mean(), (encoded - original).square().mean()
    assert 0.5 < lost / lost_by_encoder < 2
    assert (ours - encoded).square().mean() < 0.5 * lost_by_encoder


def test_compression_of_no_coarseness_is_none_and_fine_one_is_nearly_none() -> None:
    original = picture(20)  # no multiple of a block
    assert torch.equal(compress(original, torch.zeros(1)), original)
    assert (compress(original, torch.full((1,), 1e-3)) - original).abs().max() < 1e-2


def test_effects_leave_a_picture_alone_when_they_are_neutral() -> None:
    images = picture()[None]
    neutral = Photography(torch.ones(1), torch.ones(1, 1, 3), torch.zeros(1, 1), torch.zeros(1, 1))
    torch.testing.assert_close(neutral.apply(images), images)


def test_no_saturation_is_grey_and_blur_takes_detail_away() -> None:
    images = picture()[None]
    neutral = Photography(torch.ones(1), torch.ones(1, 1, 3), torch.zeros(1, 1), torch.zeros(1, 1))
    grey = replace(neutral, saturation=torch.zeros(1)).apply(images)
    assert (grey.amax(dim=2) - grey.amin(dim=2)).max() < 1e-6
    soft = replace(neutral, blur=torch.full((1, 1), 0.2)).apply(images)
    assert soft.diff(dim=-1).abs().mean() < 0.7 * images.diff(dim=-1).abs().mean()
    assert abs(float(soft.mean() - images.mean())) < 0.01


def test_drawn_effects_stay_in_range_and_differ_between_frames() -> None:
    images = picture()[None].expand(6, 3, -1, -1, -1)
    found = Photography.draw(6, 3, torch.Generator().manual_seed(1)).apply(images)
    assert found.min() >= 0
    assert found.max() <= 1
    assert not torch.equal(found[:, 0], found[:, 1])
