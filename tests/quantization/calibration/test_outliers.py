from __future__ import annotations

import pytest
import torch

from kernels import FORMATS, QuantizedLinear
from quantization.calibration.outliers import Tail, outliers
from quantization.layer import rotation_signs


def test_a_normal_distribution_has_a_kurtosis_of_three() -> None:
    tail = Tail.of(torch.randn(200, 500, generator=torch.Generator().manual_seed(0)))
    assert tail.kurtosis == pytest.approx(3, abs=0.1)
    assert sum(tail.histogram) == pytest.approx(1, abs=1e-3)


def test_peak_and_kurtosis_do_not_depend_on_the_scale() -> None:
    values = torch.randn(50, 64, generator=torch.Generator().manual_seed(0))
    first, second = Tail.of(values), Tail.of(1000 * values)
    assert first.peak == pytest.approx(second.peak)
    assert first.histogram == second.histogram


def test_rotation_takes_the_tail_away() -> None:
    rows = torch.randn(100, 64, generator=torch.Generator().manual_seed(0))
    rows[:, 7] *= 40
    special = torch.zeros(100, dtype=torch.bool)
    special[::5] = True
    layer = QuantizedLinear.from_float(
        FORMATS["w4a4"], torch.randn(8, 64), signs=rotation_signs(64, "layer", 0)
    )
    found = outliers(rows, special, layer)
    assert found.patches.kurtosis > 10
    assert found.patches_transformed.kurtosis < 3
    assert found.special_transformed.kurtosis < found.special.kurtosis
