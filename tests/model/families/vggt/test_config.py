from __future__ import annotations

import json

import pytest

from model import VGGTConfig
from model.families.vggt.presets import PRESETS
from model.network.config import VisionTransformerConfig


@pytest.mark.parametrize("name", PRESETS)
def test_a_configuration_survives_json(name: str) -> None:
    assert VGGTConfig.from_dict(json.loads(json.dumps(PRESETS[name].to_dict()))) == PRESETS[name]


def test_an_unknown_key_is_named() -> None:
    with pytest.raises(ValueError, match="unknown network configuration: colour"):
        VGGTConfig.from_dict({"colour": 1})


def test_an_unknown_key_of_a_part_is_named() -> None:
    with pytest.raises(ValueError, match="unknown camera_head configuration: wheels"):
        VGGTConfig.from_dict({"camera_head": {"wheels": 4}})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"patch_embed": "resnet"}, "patch_embed is 'resnet'"),
        ({"embed_dim": 512}, "image encoder's embed_dim is 1024"),
        ({"patch_embed": "dino_vit"}, "needs patch_embed_vit"),
        ({"patch_embed_vit": VisionTransformerConfig()}, "nothing else takes it"),
        ({"aa_order": ("frame", "frame")}, "aa_order"),
        ({"aa_block_size": 5}, "not a multiple of aa_block_size"),
        ({"rope_freq": 0}, "rope_freq"),
        ({"depth": 12}, "reads layers"),
        ({"num_heads": 24}, "not a multiple of 4 x 24 heads"),
    ],
)
def test_a_shape_that_cannot_be_built_is_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VGGTConfig(**values)


def test_heads_can_be_left_out() -> None:
    assert PRESETS["vggt-1b"].with_heads(("camera", "depth")).heads == ("camera", "depth")


def test_a_head_that_is_not_there_cannot_be_asked_for() -> None:
    with pytest.raises(ValueError, match="head 'track' was asked for"):
        PRESETS["demo"].with_heads(("track",))


def test_a_public_encoder_name_gives_its_shape() -> None:
    encoder = VGGTConfig(embed_dim=384, patch_embed="dinov2_vits14_reg").encoder
    assert encoder is not None
    assert (encoder.embed_dim, encoder.depth, encoder.num_heads, encoder.img_size) == (
        384,
        12,
        6,
        518,
    )


def test_parts_may_be_plain_mappings() -> None:
    given = json.loads(json.dumps(PRESETS["demo"].to_dict()))
    assert VGGTConfig(**given) == PRESETS["demo"]
