from __future__ import annotations

import torch
from PIL import Image

from model.preprocess import preprocess_images
from model.scene.shrinking import shrink, shrunk


def test_a_shrunk_batch_still_leads_to_the_original_grid() -> None:
    batch = preprocess_images(
        [Image.new("RGB", (200, 100), "red"), Image.new("RGB", (100, 200))],
        image_size=96,
        patch_size=12,
    )
    small = shrink(batch, 0.5, 12)
    assert small.images.shape == (2, 3, 48, 48)
    for before, after in zip(batch.transforms, small.transforms, strict=True):
        assert after.original_size == before.original_size
        intrinsics = torch.tensor([[50.0, 0, 48], [0, 50, 48], [0, 0, 1]])
        halved = torch.diag(torch.tensor([0.5, 0.5, 1.0])) @ intrinsics
        torch.testing.assert_close(
            after.intrinsics_to_original(halved), before.intrinsics_to_original(intrinsics)
        )
    assert small.images[0, :, 24, 24].tolist() == [1, 0, 0]


def test_nothing_shrinks_below_one_patch() -> None:
    batch = preprocess_images([Image.new("RGB", (200, 100))], "fit", 96, 12)
    assert shrink(batch, 0.01, 12).images.shape[-2:] == (12, 12)


def test_the_size_is_told_beforehand() -> None:
    batch = preprocess_images([Image.new("RGB", (200, 40))], "fit", 96, 12)
    assert (
        shrunk(*batch.images.shape[-2:], 0.3, 12)
        == shrink(batch, 0.3, 12).images.shape[-2:]
        == (12, 24)
    )
