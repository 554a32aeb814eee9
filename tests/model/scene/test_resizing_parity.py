"""Public preprocessing of networks other than VGGT, against their golden pictures."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from model.scene.preprocess import preprocess_images
from model.scene.resizing import PIXEL_BUDGET, budget_size, place
from tests.model.golden import cases_of, fixtures


@pytest.mark.parametrize(("folder", "case"), cases_of("da3_preprocess"))
def test_resizing_is_opencvs(folder: Path, case: dict[str, Any]) -> None:
    made = preprocess_images(
        [folder / "inputs" / case["input"]], "public", case["process_res"], 14, case["method"]
    )
    got = (made.images[0].permute(1, 2, 0) * 255).round().byte().numpy()
    with Image.open(folder / "expected" / case["expected"]) as picture:
        expected = np.array(picture)
    assert got.shape == (*case["size_hw"], 3) == expected.shape
    # a side grows by a cubic resize, whose weights OpenCV rounds
    with Image.open(folder / "inputs" / case["input"]) as picture:
        grows = _grows(case["method"], case["process_res"], *picture.size)
    assert np.abs(got.astype(int) - expected).max() <= int(grows)
    if not grows:
        assert hashlib.sha256(got.tobytes()).hexdigest() == case["sha256"]
    (sx, sy), (ox, oy) = made.transforms[0].scale, made.transforms[0].offset
    on_grid = torch.tensor([[sx, 0, ox], [0, sy, oy], [0, 0, 1]], dtype=torch.float64)
    torch.testing.assert_close(
        on_grid @ torch.tensor(case["intrinsics_in"], dtype=torch.float64),
        torch.tensor(case["intrinsics_out"], dtype=torch.float64),
    )


def _grows(method: str, side: int, width: int, height: int) -> bool:
    bound = min(width, height) if method == "lower_bound_resize" else max(width, height)
    sizes = [round(length * side / bound) for length in (width, height)]
    if method == "upper_bound_crop":
        return side > bound
    return side > bound or any(size % 14 >= 7 for size in sizes)


@pytest.mark.parametrize(("folder", "case"), cases_of("pi3_preprocess"))
def test_a_pixel_budget_is_kept_as_pi3_keeps_it(folder: Path, case: dict[str, Any]) -> None:
    with Image.open(folder / "inputs" / case["input"]) as picture:
        placed = place(picture.convert("RGB"), "pixel_budget", 0, 14, budget=case["pixel_limit"])
    with Image.open(folder / "expected" / case["expected"]) as picture:
        assert np.array_equal(placed.pixels, np.array(picture))
    assert hashlib.sha256(placed.pixels.tobytes()).hexdigest() == case["sha256"]


@pytest.mark.parametrize("folder", fixtures("pi3_preprocess"))
def test_sizes_at_the_public_budget_are_pi3s(folder: Path) -> None:
    for case in json.loads((folder / "config.json").read_text())["sizes_at_255000_pixels"]:
        expected = (case["network_width"], case["network_height"])
        assert budget_size(case["width"], case["height"], PIXEL_BUDGET, 14) == expected


def test_all_pictures_get_the_size_of_the_first_or_are_cut_to_the_smallest() -> None:
    pictures = [Image.new("RGB", size) for size in ((640, 480), (480, 640))]
    alike = preprocess_images(pictures, "public", 504, 14, "pixel_budget")
    assert alike.images.shape[2:] == (434, 574)
    cut = preprocess_images(pictures, "public", 126, 14, "upper_bound_resize")
    assert cut.images.shape[2:] == (98, 98)
    assert cut.transforms[0].offset == (-14.0, 0.0)
    assert cut.transforms[1].offset == (0.0, -14.0)
