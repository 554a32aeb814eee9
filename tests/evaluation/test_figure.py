from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evaluation.evaluate import evaluate
from evaluation.figure import draw
from scenes.scene import Scene


@pytest.mark.parametrize("depth", [True, False], ids=["with depth examples", "without depth"])
def test_reports_become_one_picture(
    depth: bool, tmp_path: Path, oracle: Callable, make_scene: Callable
) -> None:
    scenes = [make_scene(f"s{i}", depth=depth) for i in range(2)]
    exact = evaluate(oracle(scenes), scenes, resamples=5)
    turned = evaluate(oracle(scenes, turn_deg=8, depth_noise=0.2), scenes, resamples=5)
    path = draw({"exact": exact, "turned": turned}, tmp_path / "new" / "report.png")
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    assert path.name == "report.png"
    assert pixels.shape[1] >= 1000
    assert (pixels.shape[0] > 800) == depth
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 50


def test_the_same_reports_draw_the_same_file(
    tmp_path: Path, scenes: list[Scene], oracle: Callable
) -> None:
    report = evaluate(oracle(scenes, turn_deg=5), scenes, resamples=5)
    first, second = (
        draw({"x": report}, tmp_path / name).read_bytes() for name in ("a.png", "b.png")
    )
    assert first == second


def test_nothing_to_draw_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no report"):
        draw({}, tmp_path / "report.png")
