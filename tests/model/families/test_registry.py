from __future__ import annotations

import pytest
import torch

from model import VGGT, VGGTConfig, families
from model.families.family import Grid
from model.network.keys import USUAL_BUDGET, pattern
from model.network.network import Stage
from model.network.prediction import Prediction
from model.rotations import invert_extrinsics
from tests.model.conftest import tiny_config


def test_a_family_is_found_by_its_name_and_by_a_configuration() -> None:
    assert families.of(VGGTConfig()) is families.named("vggt")
    with pytest.raises(
        ValueError, match="no network family 'da9'; known: vggt, depth_anything_3, pi3"
    ):
        families.named("da9")


@pytest.mark.parametrize("name", families.FAMILIES)
def test_a_family_reads_back_the_configurations_that_it_names(name: str) -> None:
    family = families.named(name)
    for config in family.presets.values():
        assert config.family == name
        assert family.config.from_dict(config.to_dict()) == config
        assert set(config.heads) <= set(family.heads)


def test_a_checkpoint_is_recognised_by_its_tensors_names() -> None:
    heads = ("camera", "depth", "point", "track")
    names: dict[str, tuple[int, ...]] = {"aggregator.camera_token": (1, 2, 1, 1024)}
    names |= {f"{head}_head.first": (1,) for head in heads}
    assert families.recognise(None, names) == families.PRESETS["vggt-1b"]
    hubs = {"img_size": 518, "patch_size": 14, "embed_dim": 1024}
    assert families.recognise(hubs, names) == families.PRESETS["vggt-1b"]
    assert families.recognise(tiny_config().to_dict(), names) == tiny_config()
    assert families.recognise(None, dict(list(names.items())[:2])).heads == ("camera",)
    assert families.recognise(None, {"blocks.0.norm1.weight": (8,)}) is None
    with pytest.raises(ValueError, match="colour"):
        families.recognise({"depth": 2, "colour": 1}, names)


def test_every_layer_of_a_block_belongs_to_one_part(net: VGGT) -> None:
    family = families.of(net.config)
    linears = [name for name, module in net.named_modules() if isinstance(module, torch.nn.Linear)]
    found = {name: family.part_of(name) for name in linears}
    for stage in net.blocks():
        assert all(part for name, part in found.items() if name.startswith(f"{stage.name}."))
    assert set(found.values()) == {*family.parts, None}


def test_a_network_names_its_blocks_in_the_order_in_which_they_run(net: VGGT) -> None:
    ran: list[str] = []
    for stage in net.blocks():
        net.get_submodule(stage.name).register_forward_hook(
            lambda *_, name=stage.name: ran.append(name)
        )
    with torch.no_grad():
        net(torch.rand(2, 3, 28, 28))
    assert ran == [stage.name for stage in net.blocks()]
    assert net.blocks()[:3] == (
        Stage("aggregator.patch_embed.blocks.0", "local"),
        Stage("aggregator.frame_blocks.0", "local"),
        Stage("aggregator.global_blocks.0", "global"),
    )


def test_special_tokens_and_patches_make_up_a_frame(net: VGGT) -> None:
    family = families.of(net.config)
    shapes: list[tuple[int, ...]] = []
    net.get_submodule(net.blocks()[-1].name).register_forward_hook(
        lambda _, __, out: shapes.append(tuple(out.shape))
    )
    with torch.no_grad():
        net(torch.rand(2, 3, 28, 42))
    assert shapes[0][1] == 2 * (family.special_tokens(net.config) + 2 * 3)
    assert family.grid(net.config) == Grid(56, 14)


def test_an_absent_heads_tensors_are_ignored(net: VGGT) -> None:
    family, config = families.of(net.config), net.config.with_heads(["camera", "depth"])
    left = {
        name for name, _ in net.named_parameters() if not name.startswith(family.ignored(config))
    }
    assert left == {name for name, _ in family.build(config).named_parameters()}


def test_a_prediction_without_heads_says_nothing() -> None:
    found = families.named("vggt").decode(VGGTConfig(), Prediction(), (28, 28))
    assert (found.extrinsics, found.intrinsics, found.depth, found.points) == (None,) * 4


def test_a_family_says_what_a_network_will_look_at() -> None:
    config = families.PRESETS["vggt-1b"]
    family = families.of(config)
    found = family.keys(config, 100, 392, 518, USUAL_BUDGET)
    assert found == pattern(100, (28, 37), family.special_tokens(config), USUAL_BUDGET)
    assert family.keys(config, 100, 392, 518, None).exact


def test_the_first_stage_of_lingbot_map_is_a_vggt_whose_cameras_are_inverted() -> None:
    names: dict[str, tuple[int, ...]] = {"aggregator.camera_token": (), "camera_head.first": ()}
    usual = families.recognise(None, names, "facebook/VGGT-1B-Commercial")
    config = families.recognise(None, names, "robbyant/lingbot-map:lingbot-map-stage1.pt")
    assert isinstance(usual, VGGTConfig)
    assert isinstance(config, VGGTConfig)
    assert (usual.camera_to_world, config.camera_to_world) == (False, True)
    assert "camera_to_world" not in usual.to_dict()
    assert VGGTConfig.from_dict(config.to_dict()) == config
    prediction = Prediction(pose_enc=torch.tensor([[1.0, 2, 3, 0, 0, 1, 1, 1, 1]]))
    one, other = (families.of(c).decode(c, prediction, (28, 28)) for c in (usual, config))
    assert one.extrinsics is not None
    assert other.extrinsics is not None
    torch.testing.assert_close(invert_extrinsics(one.extrinsics)[:, :3], other.extrinsics)


def test_the_tracker_of_vggt_tracker_fixed_knows_where_on_the_picture_features_are() -> None:
    names: dict[str, tuple[int, ...]] = {"aggregator.camera_token": (), "track_head.first": ()}
    for location, expected in (
        ("facebook/VGGT-1B/model.pt", False),
        ("facebook/VGGT_tracker_fixed/model_tracker_fixed_e20.pt", True),
        ("weights/model_tracker_fixed_e20.pt", True),
    ):
        config = families.recognise(None, names, location)
        assert isinstance(config, VGGTConfig)
        assert config.track_head is not None
        assert config.track_head.pos_embed is expected


def test_licences_are_known_by_hub_id() -> None:
    allowed = {name: licence.commercial for name, licence in families.LICENCES.items()}
    assert allowed["depth-anything/DA3-BASE"] is True
    assert allowed["facebook/VGGT-1B-Commercial"] is True
    assert allowed["depth-anything/DA3-LARGE-1.1"] is False
    assert allowed["yyfz233/Pi3X"] is False
    assert allowed["robbyant/lingbot-map"] is None
    assert all(licence.source for licence in families.LICENCES.values())
