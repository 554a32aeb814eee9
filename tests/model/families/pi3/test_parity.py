"""pi3 and Pi3X against golden outputs of the public networks, and that mistakes are seen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model import families
from model.families.pi3 import heads as heads_module
from model.families.pi3.cameras import intrinsics_of
from model.families.pi3.config import HEADS, ConvHeadConfig, Pi3Config
from model.families.pi3.edges import depth_edges, edges
from model.families.pi3.metric import metres
from model.families.pi3.network import Pi3
from tests.model.golden import Fixture, cases, fixtures


@pytest.fixture(autouse=True)
def without_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def _config(module: dict[str, Any]) -> Pi3Config:
    encoder, decoder, heads = module["encoder"], module["decoder"], module["heads"]
    conv = module.get("conv_head")
    return Pi3Config(
        img_size=encoder["img_size"],
        embed_dim=encoder["embed_dim"],
        encoder_depth=encoder["depth"],
        encoder_heads=encoder["num_heads"],
        decoder_depth=decoder["depth"],
        decoder_heads=decoder["num_heads"],
        head_dim=heads["embed_dim"],
        head_depth=heads["depth"],
        head_heads=heads["num_heads"],
        camera_dim=heads["camera_dim"],
        metric_dim=heads["metric_dim"],
        metric_heads=heads["num_heads"],
        conv_head=None
        if conv is None
        else ConvHeadConfig(
            tuple(conv["dim_upsample"]), conv["num_res_blocks"], conv["last_conv_channels"]
        ),
        heads=HEADS[:2] if conv is None else HEADS,
    )


def _network(fixture: Fixture) -> Pi3:
    """The network with the fixture's weights, of which only the input's constants are left over."""
    config = _config(fixture.config["module"])
    ignored = families.of(config).ignored(config)
    left = {name for name in fixture.weights if name.startswith(ignored)}
    assert left == {"image_mean", "image_std"}
    net = Pi3(config)
    used = {name: value for name, value in fixture.weights.items() if name not in left}
    net.load_state_dict(used, strict=True)
    return net.eval()


def _check(net: Pi3, fixture: Fixture, case: str) -> None:
    """Every tensor of one case that the fixture knows."""

    def check(name: str, got: Tensor) -> None:
        if f"{case}.{name}" in fixture.outputs:
            fixture.check(f"{case}.{name}", got)

    images = fixture.inputs[f"{case}.images"]
    size, batch, config = (images.shape[-2], images.shape[-1]), images.shape[0], net.config
    patches = net.encode(images)
    check("encoder_patches", patches)
    tokens = net.decode(patches, images)
    check("decoded", tokens)
    rope = net.rope(size, config.head_dim // config.head_heads, tokens)
    for name in net.decoders:
        check(name, net.get_submodule(name)(tokens, rope))
    if net.metric_decoder is not None:
        own = net.rope(size, config.metric_dim // config.metric_heads, tokens)
        scene = tokens.unflatten(0, (batch, -1)).flatten(1, 2)
        decoded = net.metric_decoder(net.metric_token.expand(batch, -1, -1), scene, own)
        check("metric_decoder", decoded)
        check("metric", metres(net.metric_head(decoded)))
    found = net(images)
    check("local_points", found.camera_points)
    check("rays", F.normalize(found.camera_points / found.camera_points[..., 2:], dim=-1))
    check("conf", found.depth_conf[..., None])
    poses = found.pose_enc.unflatten(-1, (3, 4))
    last = poses.new_tensor([0, 0, 0, 1]).expand(*poses.shape[:2], 1, 4)
    check("camera_poses", torch.cat((poses, last), dim=-2))
    rotation, centre = poses[..., None, :3, :3], poses[..., None, None, :3, 3]
    check("points", found.camera_points @ rotation.mT + centre)


KINDS = [*fixtures("pi3_tiny"), *fixtures("pi3x_tiny")]


@pytest.mark.parametrize("folder", KINDS)
def test_every_step_of_a_pass_is_the_public_networks(folder: Path) -> None:
    fixture = Fixture(folder)
    net = _network(fixture)
    for case, _ in cases(fixture):
        _check(net, fixture, case)


@pytest.mark.parametrize("folder", fixtures("pi3_geometry"))
def test_intrinsics_come_out_of_points(folder: Path) -> None:
    fixture = Fixture(folder)
    points = fixture.inputs["points"]
    fixture.check("intrinsics", intrinsics_of(points))
    fixture.check("intrinsics_free", intrinsics_of(points, centred=False))


@pytest.mark.parametrize("folder", fixtures("pi3_geometry"))
def test_edges_are_those_of_the_public_code(folder: Path) -> None:
    fixture = Fixture(folder)
    points, mask = fixture.inputs["points"], fixture.inputs["mask"].bool()
    fixture.check("depth_edge", depth_edges(points[..., 2], mask))
    fixture.check("depth_normal_edge", edges(points, mask))
    everything = torch.ones_like(mask)
    assert not torch.equal(
        depth_edges(points[..., 2], mask), depth_edges(points[..., 2], everything)
    )
    assert not torch.equal(edges(points, mask), edges(points, everything))


Change = Callable[[Pi3, pytest.MonkeyPatch], None]


def _padded_with_zeros(net: Pi3, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in net.modules():
        if isinstance(module, nn.Conv2d) and module.padding_mode == "replicate":
            module.padding_mode = "zeros"


def _corners_aligned(net: Pi3, monkeypatch: pytest.MonkeyPatch) -> None:
    true = F.interpolate

    def interpolate(x: Tensor, **how: Any) -> Tensor:
        return true(x, **{**how, "align_corners": True})

    monkeypatch.setattr(heads_module.F, "interpolate", interpolate)


def _global_blocks_first(net: Pi3, monkeypatch: pytest.MonkeyPatch) -> None:
    net.decoder = nn.ModuleList([net.decoder[1], net.decoder[0], *net.decoder[2:]])


def _rotation_as_it_comes(net: Pi3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads_module, "nearest_rotation", lambda matrix: matrix)


def _norms_as_vggts(net: Pi3, monkeypatch: pytest.MonkeyPatch) -> None:
    for block in net.decoder:
        block.norm1.eps = block.norm2.eps = 1e-5


@pytest.mark.parametrize(
    "mistake",
    [
        _padded_with_zeros,
        _corners_aligned,
        _global_blocks_first,
        _rotation_as_it_comes,
        _norms_as_vggts,
    ],
)
def test_a_mistake_is_seen(mistake: Change, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = 0
    for folder in KINDS:
        fixture = Fixture(folder.values[0])
        net = _network(fixture)
        with monkeypatch.context() as undone:
            mistake(net, undone)
            for case, _ in cases(fixture):
                try:
                    _check(net, fixture, case)
                except AssertionError:
                    seen += 1
    assert seen
