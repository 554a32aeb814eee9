from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from kernels import FORMATS, QuantizedLinear, widths, with_wide_activations
from kernels.widths import LayerShape, wide_cost


def test_only_narrower_activations_of_a_weight_with_a_wider_format_can_be_widened() -> None:
    assert {name: with_wide_activations(known) for name, known in FORMATS.items()} == {
        "w8a8": None,
        "w4a8": None,
        "w4a4": FORMATS["w4a8"],
        "w4a16": None,
        "w3a4": None,
        "w2a4": None,
    }


def test_a_layer_with_other_activations_shares_its_weight() -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(24, 32, generator=generator)
    layer = QuantizedLinear.from_float(
        FORMATS["w4a4"], weight, activation_clip=torch.tensor([0.8, 0.8])
    )
    wide = layer.with_activations(FORMATS["w4a8"], layer.weight_scale)
    assert wide.weight.data_ptr() == layer.weight.data_ptr()
    x = torch.randn(9, 32, generator=generator)
    exact = x @ (layer.weight_codes() * layer.weight_scale[:, None]).T
    assert (wide(x) - exact).norm() < 0.2 * (layer(x) - exact).norm()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(widths, "cache_folder", lambda: tmp_path)
    return tmp_path


NARROW = LayerShape(FORMATS["w4a4"], 64, 96, rotated=True, smoothed=True)
WIDE = NARROW._replace(format=FORMATS["w4a8"])


def test_layers_that_cannot_be_widened_cost_nothing(cache: Path) -> None:
    assert wide_cost({WIDE: 3}) == 1.0


def test_what_was_measured_once_on_a_machine_is_kept(cache: Path) -> None:
    first = wide_cost({NARROW: 2, WIDE: 3})
    assert first > 0
    (file,) = cache.iterdir()
    assert wide_cost({WIDE: 3, NARROW: 2}) == first
    file.write_text(json.dumps({"cost": 7.5}))
    assert wide_cost({NARROW: 2, WIDE: 3}) == 7.5
    file.write_text("{")
    assert wide_cost({NARROW: 2, WIDE: 3}) != 7.5
    wide_cost({NARROW: 5})
    assert len(list(cache.iterdir())) == 2


def test_a_folder_that_cannot_be_written_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(widths, "cache_folder", lambda: tmp_path / "missing")
    assert wide_cost({NARROW: 1}) > 0
