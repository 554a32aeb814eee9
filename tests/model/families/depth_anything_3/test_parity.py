"""Depth Anything 3 against golden outputs of the public network, and that each way in which it is
easy to get wrong is seen by them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor

from model import families
from model.families.depth_anything_3 import backbone as backbone_module
from model.families.depth_anything_3 import network as network_module
from model.families.depth_anything_3 import reference_view
from model.families.depth_anything_3.backbone import Backbone
from model.families.depth_anything_3.cameras import (
    cameras_to_encoding,
    encoding_to_cameras,
    normalised,
)
from model.families.depth_anything_3.config import DepthAnything3Config
from model.families.depth_anything_3.metric import in_metres
from model.families.depth_anything_3.network import DepthAnything3
from model.families.depth_anything_3.rays import cameras_from_rays
from model.families.depth_anything_3.sky import with_far_sky
from model.families.family import Geometry
from model.network import dpt_head
from model.rotations import quaternion_to_matrix
from tests.model.golden import PARITY, Fixture, cases, fixtures


@pytest.fixture(autouse=True)
def without_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def _config(module: dict[str, Any], rays: bool) -> DepthAnything3Config:
    backbone, head = module["backbone"], module["head"]
    any_view = head["kind"] == "dual"
    return DepthAnything3Config(
        kind="any-view" if any_view else "mono",
        **{key: backbone[key] for key in ("img_size", "embed_dim", "depth", "num_heads")},
        alt_start=backbone["alt_start"] if any_view else None,
        gated=backbone["ffn_layer"] == "swiglufused",
        out_layers=module["out_layers"],
        features=head["features"],
        out_channels=head["out_channels"],
        camera_encoder_heads=module["cam_enc"]["num_heads"] if any_view else 16,
        heads=("camera", "depth", *(["rays"] if rays else [])) if any_view else ("depth",),
    )


def _network(fixture: Fixture, rays: bool = True) -> DepthAnything3:
    """The network with the fixture's weights, none of which is left over."""
    config = _config(fixture.config["module"], rays)
    family, net = families.of(config), DepthAnything3(config)
    named = {family.tensor_name(config, name): value for name, value in fixture.weights.items()}
    used = {k: v for k, v in named.items() if not k.startswith(family.ignored(config))}
    net.load_state_dict(used, strict=True)
    return net.eval()


def _known(fixture: Fixture, case: str) -> tuple[Tensor, Tensor] | None:
    """The case's own cameras, if it has any."""
    if f"{case}.extrinsics" not in fixture.inputs:
        return None
    return fixture.inputs[f"{case}.extrinsics"], fixture.inputs[f"{case}.intrinsics"]


def _check(net: DepthAnything3, fixture: Fixture, case: str) -> None:
    """Every tensor of one case that the fixture knows."""

    def check(name: str, got: Tensor) -> None:
        if f"{case}.{name}" in fixture.outputs:
            fixture.check(f"{case}.{name}", got)

    images = fixture.inputs[f"{case}.images"]
    size, frames = (images.shape[-2], images.shape[-1]), images.shape[:2]
    known, cameras = None, _known(fixture, case)
    if cameras is not None:
        known = net.cam_enc(cameras_to_encoding(*cameras, size))
        check("cam_enc", known)
    check("tokens_in", net.backbone.embed(images).unflatten(0, frames))
    levels, first = net.head.begin(size), None
    with mock.patch.object(
        reference_view, "order_with_first", wraps=reference_view.order_with_first
    ) as chosen:
        for layer, parts in net.backbone.layers(images, net.head.layers, camera_tokens=known):
            levels.take(layer, *net.as_read(parts))
            read = torch.cat(net.as_read(parts), dim=-1)[:, :, 1:]
            check(f"feat.{net.head.layers.index(layer)}", read)
            first = torch.cat([part[:, :, 0] for part in parts], dim=-1)
    if f"{case}.reference_view" in fixture.outputs:
        chosen.assert_called_once()
        check("reference_view", chosen.call_args.args[0])
    if cameras is not None:
        chosen.assert_not_called()
    check("camera_token", first)
    depth, second, *rays = net.head(levels, size)
    check("head.depth", depth[..., 0])
    if not net.config.any_view:
        check("head.sky", second)
        check("sky", second)
        check("depth", with_far_sky(depth[..., 0], second))
        return
    check("depth", depth[..., 0])
    for name, got in zip(("depth_conf", "head.ray", "head.ray_conf"), (second, *rays), strict=True):
        check(name, got)
    check("head.depth_conf", second)
    encoding = net.cam_dec(first)
    check("pose_enc", encoding)
    extrinsics, intrinsics = encoding_to_cameras(encoding, size)
    check("extrinsics", extrinsics)
    check("intrinsics", intrinsics)


@pytest.mark.parametrize("folder", fixtures("da3"))
def test_every_step_of_a_pass_is_the_public_networks(folder: Path) -> None:
    fixture = Fixture(folder)
    net = _network(fixture)
    for case, _ in cases(fixture):
        _check(net, fixture, case)


@pytest.mark.parametrize("folder", fixtures("da3"))
def test_a_whole_pass_gives_what_its_steps_give(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the public network is given cameras as they are; who calls it normalises them
    monkeypatch.setattr(network_module, "normalised", lambda extrinsics: extrinsics)
    fixture = Fixture(folder)
    net = _network(fixture, rays=False)
    for case, _ in cases(fixture):
        found = net(fixture.inputs[f"{case}.images"], cameras=_known(fixture, case))
        if not net.config.any_view:
            fixture.check(f"{case}.head.depth", found.depth[..., 0])
            continue
        fixture.check(f"{case}.depth", found.depth[..., 0])
        fixture.check(f"{case}.depth_conf", found.depth_conf)
        fixture.check(f"{case}.pose_enc", found.pose_enc)


def test_world_and_unit_of_known_cameras_do_not_matter_to_a_pass() -> None:
    fixture = Fixture(PARITY / "da3_anyview")
    net = _network(fixture, rays=False)
    case = next(case for case, _ in cases(fixture) if _known(fixture, case))
    images, known = fixture.inputs[f"{case}.images"], _known(fixture, case)
    assert known is not None
    extrinsics, intrinsics = known[0].double(), known[1].double()
    turned = torch.eye(4, dtype=torch.float64)
    turned[:3, :3] = quaternion_to_matrix(torch.tensor([0.1, 0.7, -0.3, 0.4], dtype=torch.float64))
    turned[:3, 3] = torch.tensor([30.0, -20, 10])
    moved = extrinsics @ turned
    moved[..., :3, 3] *= 7
    found, again = (net(images, cameras=(each, intrinsics)) for each in (extrinsics, moved))
    torch.testing.assert_close(again.pose_enc, found.pose_enc, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(again.depth, found.depth, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("folder", fixtures("da3_reference_view"))
def test_the_reference_view_is_the_public_one(folder: Path) -> None:
    fixture = Fixture(folder)
    for case, _ in cases(fixture):
        tokens = fixture.inputs[f"{case}.x"]
        for strategy in reference_view.STRATEGIES:
            fixture.check(f"{case}.{strategy}", reference_view.choose(tokens[:, :, 0], strategy))
        chosen = reference_view.choose(tokens[:, :, 0])
        order = reference_view.order_with_first(chosen, tokens.shape[1])
        fixture.check(f"{case}.reordered", reference_view.arranged(tokens, order))


@pytest.mark.parametrize("folder", fixtures("da3_pose"))
def test_cameras_are_encoded_as_the_public_code_does(folder: Path) -> None:
    fixture = Fixture(folder)
    size, inputs = tuple(fixture.config["module"]["image_size"]), fixture.inputs
    extrinsics, intrinsics = encoding_to_cameras(inputs["pose_enc"], size)
    fixture.check("extrinsics", extrinsics)
    # among them is the focal length of a field of view of 0
    torch.testing.assert_close(intrinsics, fixture.outputs["intrinsics"], atol=0, rtol=2e-5)
    encoding = cameras_to_encoding(inputs["w2c"], inputs["intrinsics_in"], size)
    fixture.check("camera_encoding", encoding)
    fixture.check("normalised_extrinsics", normalised(inputs["w2c"][:1]))


@pytest.mark.parametrize("folder", fixtures("da3_ray_pose"))
def test_cameras_come_out_of_ray_maps(folder: Path) -> None:
    fixture = Fixture(folder)
    size = tuple(fixture.config["module"]["image_size"])
    rays, confidence = fixture.inputs["ray"], fixture.inputs["ray_conf"]
    extrinsics, intrinsics = cameras_from_rays(rays[0], confidence[0], size)
    fixture.check("extrinsics", extrinsics[None])
    fixture.check("intrinsics", intrinsics[None])
    wild = rays.clone()
    wild[0, :, ::3, ::2, :3] = torch.randn_like(wild[0, :, ::3, ::2, :3])  # a sixth of them
    extrinsics, intrinsics = cameras_from_rays(wild[0], confidence[0], size)
    close = {"atol": 0.05, "rtol": 0.05}
    torch.testing.assert_close(extrinsics, fixture.outputs["extrinsics"][0], **close)


@pytest.mark.parametrize("folder", fixtures("da3_metric_alignment"))
def test_a_scene_is_brought_to_metres_as_the_public_code_does(folder: Path) -> None:
    fixture = Fixture(folder)
    given = {name: value[0] for name, value in fixture.inputs.items()}
    scene = Geometry(
        given["extrinsics"], given["intrinsics"], given["depth"], given["depth_conf"], None
    )
    found, factor = in_metres(scene, given["metric_depth"], given["sky"])
    fixture.check("depth", found.depth[None])
    fixture.check("depth_conf", found.confidence[None])
    fixture.check("extrinsics", found.extrinsics[None])
    fixture.check("scale_factor", torch.tensor([factor]))


Change = Callable[[DepthAnything3, pytest.MonkeyPatch], None]


def _rectified_skips(net: DepthAnything3, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in net.modules():
        if isinstance(module, dpt_head.ResidualConvUnit):
            module.raw_skip = False


def _global_blocks_know_where(net: DepthAnything3, monkeypatch: pytest.MonkeyPatch) -> None:
    true = Backbone.ropes

    def ropes(self: Backbone, images: Tensor, dtype: torch.dtype) -> Any:
        local = true(self, images, dtype)["local"]
        return {"local": local, "global": local}

    monkeypatch.setattr(Backbone, "ropes", ropes)


def _both_halves_normalised(net: DepthAnything3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(net, "as_read", lambda parts: tuple(map(net.backbone.norm, parts)))


def _no_half_normalised(net: DepthAnything3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(net, "as_read", lambda parts: parts)


def _reference_chosen_late(net: DepthAnything3, monkeypatch: pytest.MonkeyPatch) -> None:
    true = Backbone.enter

    def enter(
        self: Backbone, index: int, tokens: Tensor, batch: int, frames: int, kept: Any, *known: Any
    ) -> Tensor:
        start = self.config.first_scene_block
        if index == start - 1:
            return tokens.reshape(batch * frames, -1, tokens.shape[-1])
        if index == start and frames >= reference_view.LEAST_VIEWS:
            views = tokens.reshape(batch, frames, -1, tokens.shape[-1])
            chosen = reference_view.choose(views[:, :, 0])
            kept["order"] = reference_view.order_with_first(chosen, frames)
            tokens = reference_view.arranged(views, kept["order"])
        return true(self, index, tokens, batch, frames, kept, *known)

    monkeypatch.setattr(Backbone, "enter", enter)


def _outputs_in_the_networks_order(net: DepthAnything3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        Backbone, "leave", lambda self, tokens, b, s, kept: tokens.view(b, s, -1, tokens.shape[-1])
    )


def _no_table_offset(net: DepthAnything3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backbone_module, "_TABLE_OFFSET", 0.0)


def _final_norm_as_dinov2s(net: DepthAnything3, monkeypatch: pytest.MonkeyPatch) -> None:
    net.backbone.norm.eps = 1e-6


def _block_norms_as_vggts(net: DepthAnything3, monkeypatch: pytest.MonkeyPatch) -> None:
    for block in net.backbone.blocks():
        block.norm1.eps = block.norm2.eps = 1e-5


@pytest.mark.parametrize(
    "mistake",
    [
        _rectified_skips,
        _global_blocks_know_where,
        _both_halves_normalised,
        _no_half_normalised,
        _reference_chosen_late,
        _outputs_in_the_networks_order,
        _no_table_offset,
        _final_norm_as_dinov2s,
        _block_norms_as_vggts,
    ],
)
def test_a_mistake_is_seen(mistake: Change, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = 0
    for folder in fixtures("da3"):
        fixture = Fixture(folder.values[0])
        net = _network(fixture)
        mistake(net, monkeypatch)
        for case, _ in cases(fixture):
            try:
                _check(net, fixture, case)
            except AssertionError:
                seen += 1
    assert seen
