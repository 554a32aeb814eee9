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
from model.scene.resizing import PIXEL_BUDGET, budget_size, place, resized
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
    bound = min(width, height) if method.startswith("lower_bound") else max(width, height)
    sizes = [round(length * side / bound) for length in (width, height)]
    if method.endswith("crop"):
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


def test_sides_that_are_cut_down_may_be_fitted_by_the_shorter_one() -> None:
    """The public methods are named by what is fitted, and by what is done to the rest."""
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (75, 100, 3), np.uint8))
    fitted = place(picture, "lower_bound_resize", 45, 1)
    assert fitted.size == (45, 60)
    cut = place(picture, "lower_bound_crop", 45, 14)
    assert cut.size == (42, 56)
    assert cut.cut == (2, 1)
    assert np.array_equal(cut.pixels, fitted.pixels[1:43, 2:58])


def test_no_side_is_less_than_a_patch_however_thin_a_picture_is() -> None:
    # the longer side gets what the budget leaves it, and the shorter one is rounded up at the end
    assert budget_size(1, 100_000, PIXEL_BUDGET, 14) == (14, 159_684)
    assert budget_size(1, 2000, PIXEL_BUDGET, 14) == (14, 22_582)
    assert budget_size(2000, 1, PIXEL_BUDGET, 14) == (22_582, 14)


def _cubic(length: int, after: int) -> np.ndarray:
    """Weights `[after, length]` of Keys' cubic with a = -0.75, float64, edges repeated."""
    weights = np.zeros((after, length))
    for row in range(after):
        place = (row + 0.5) * length / after - 0.5
        for near in range(int(np.floor(place)) - 1, int(np.floor(place)) + 3):
            x = abs(place - near)
            inner = 1.25 * x**3 - 2.25 * x**2 + 1
            outer = -0.75 * (x**3 - 5 * x**2 + 8 * x - 4)
            weights[row, np.clip(near, 0, length - 1)] += inner if x <= 1 else outer
    return weights


def test_a_cubic_resize_is_rounded_once() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (91, 124, 3), np.uint8)
    exact = np.einsum("ai,bj,ijc->abc", _cubic(91, 98), _cubic(124, 126), pixels.astype(float))
    assert np.array_equal(resized(pixels, 98, 126), exact.round().clip(0, 255).astype(np.uint8))
