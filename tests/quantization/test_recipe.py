from __future__ import annotations

import pytest

from kernels import FORMATS
from model import families
from quantization.recipe import RECIPES, Recipe, find_scheme

VGGT = families.named("vggt")


@pytest.mark.parametrize("part", ["aggregator", "image_encoder", "camera_head"])
def test_an_unknown_scheme_is_refused(part: str) -> None:
    with pytest.raises(ValueError, match="unknown scheme 'w3a3'; expected one of"):
        Recipe().with_parts(**{part: "w3a3"})


def test_a_recipe_that_quantises_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="quantises nothing"):
        Recipe().with_parts(aggregator="float", image_encoder="float", camera_head="float").of(VGGT)


def test_a_part_that_the_network_lacks_is_refused_and_those_it_has_are_named() -> None:
    with pytest.raises(
        ValueError, match="no part point_decoder; they have aggregator, image_encoder, camera_head"
    ):
        Recipe().with_parts(point_decoder="w4a4").of(VGGT)


def test_parts_get_the_familys_usual_scheme_unless_the_recipe_names_another() -> None:
    recipe = Recipe().with_parts(camera_head="w8a8").of(VGGT)
    assert dict(recipe.parts) == {
        "aggregator": "w4a4",
        "image_encoder": "w4a8",
        "camera_head": "w8a8",
    }
    layer = "aggregator.frame_blocks.3.mlp.fc2"
    assert recipe.scheme(VGGT, layer) == Recipe().scheme(VGGT, layer) == FORMATS["w4a4"]
    assert recipe.scheme(VGGT, "depth_head.projects.0") is None


def test_the_manifest_lists_the_parts_by_name() -> None:
    stored = Recipe().with_parts(aggregator="w4a8").of(VGGT).to_dict()
    assert list(stored)[:4] == ["aggregator", "image_encoder", "camera_head", "overrides"]
    assert stored["aggregator"] == "w4a8"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("rounding", "up"),
        ("propagate", "nothing"),
        ("alpha", 1.5),
        ("wide_share", -0.1),
        ("learning_epochs", -1),
    ],
)
def test_a_setting_out_of_range_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{field} is {value!r}"):
        Recipe(**{field: value})


def test_only_plain_rounding_and_rotation_need_no_calibration() -> None:
    assert {name for name, recipe in RECIPES.items() if not recipe.needs_calibration} == {
        "rtn",
        "quarot",
    }


def test_a_scheme_is_a_number_format_or_float() -> None:
    assert all(find_scheme(name) is known for name, known in FORMATS.items())
    assert find_scheme("float") is None
