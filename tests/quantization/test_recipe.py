from __future__ import annotations

import pytest

from quantization.recipe import RECIPES, Recipe, Scheme


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


def test_a_scheme_reads_as_it_is_written_and_knows_its_layer() -> None:
    assert Scheme.parse("w4a8") == Scheme(4, 8)
    assert Scheme(3, 4).name == "w3a4"
    assert Scheme(3, 4).layer == "w4a4"
    assert Scheme.parse("float") is None
