from __future__ import annotations

import pytest

from kernels import FORMATS
from quantization.recipe import RECIPES, Recipe, find_scheme


@pytest.mark.parametrize("part", ["aggregator", "image_encoder", "camera_head"])
def test_an_unknown_scheme_is_refused(part: str) -> None:
    with pytest.raises(ValueError, match="unknown scheme 'w3a3'; expected one of"):
        Recipe(**{part: "w3a3"})


def test_a_recipe_that_quantises_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="quantises nothing"):
        Recipe(aggregator="float", image_encoder="float", camera_head="float")


@pytest.mark.parametrize(
    ("field", "value"), [("rounding", "up"), ("propagate", "nothing"), ("alpha", 1.5), ("learning_epochs", -1)]
)
def test_a_setting_out_of_range_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{field} is {value!r}"):
        Recipe(**{field: value})


def test_only_plain_rounding_and_rotation_need_no_calibration() -> None:
    assert {name for name, recipe in RECIPES.items() if not recipe.needs_calibration} == {"rtn", "quarot"}


def test_a_scheme_is_a_number_format_or_float() -> None:
    assert all(find_scheme(name) is known for name, known in FORMATS.items())
    assert find_scheme("float") is None
