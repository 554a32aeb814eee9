"""A scene in metres from two artifacts: one that sees all pictures at once, and one that knows
metres."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from model.families.depth_anything_3.metric import in_metres
from model.families.family import Geometry
from model.files.artifact import load, save
from model.network.network import Network
from model.reconstruct import reconstruct
from quantization.convert import quantize_network
from quantization.recipe import RECIPES
from tests.model.families.networks import depth_anything_3, filled, pi3


def _artifact(net: Network, folder: Path) -> Network:
    save(quantize_network(net, RECIPES["rtn"]), folder)
    return load(folder)


@pytest.fixture(scope="module")
def any_view(tmp_path_factory: pytest.TempPathFactory) -> Network:
    return _artifact(filled(depth_anything_3()), tmp_path_factory.mktemp("any-view") / "artifact")


@pytest.fixture(scope="module")
def metric(tmp_path_factory: pytest.TempPathFactory) -> Network:
    net = filled(depth_anything_3("metric"))
    last = net.head.scratch.sky_output_conv2[2]
    last.weight *= 20
    last.bias.fill_(1.3)  # sky in about half of all places
    return _artifact(net, tmp_path_factory.mktemp("metric") / "artifact")


@pytest.fixture
def pictures() -> list[Image.Image]:
    random = np.random.default_rng(0)
    return [Image.fromarray(random.integers(0, 255, (84, 112, 3), np.uint8)) for _ in range(3)]


def test_the_metric_network_gives_a_scene_of_several_pictures_its_scale_and_sky(
    any_view: Network, metric: Network, pictures: list[Image.Image]
) -> None:
    plain = reconstruct(any_view, pictures)
    scene = reconstruct(any_view, pictures, metric=metric)
    singles = [reconstruct(metric, [picture]) for picture in pictures]
    sky = torch.cat([single.depth_conf for single in singles]) == 1
    assert 0 < sky.float().mean() < 1

    def focal(matrix: torch.Tensor) -> torch.Tensor:
        return (matrix[0, 0] + matrix[1, 1]) / 2

    metres = torch.stack(
        [
            single.depth[0] * focal(matrix) / focal(single.intrinsics[0])
            for single, matrix in zip(singles, plain.intrinsics, strict=True)
        ]
    )
    used = ~sky & (plain.depth_conf >= plain.depth_conf[~sky].median())
    near, true = plain.depth[used].double(), metres[used].double()
    factor = float((near @ true) / (near @ near))
    assert abs(factor - 1) > 0.05

    torch.testing.assert_close(scene.depth[~sky], factor * plain.depth[~sky], rtol=1e-3, atol=0)
    torch.testing.assert_close(
        scene.extrinsics[:, :, 3], factor * plain.extrinsics[:, :, 3], rtol=1e-3, atol=1e-5
    )
    assert torch.equal(scene.extrinsics[:, :, :3], plain.extrinsics[:, :, :3])
    assert torch.equal(scene.intrinsics, plain.intrinsics)
    assert torch.equal(scene.depth_conf[~sky], plain.depth_conf[~sky])
    assert (scene.depth_conf[sky] == 1).all()
    assert (scene.depth[sky] >= scene.depth[~sky].quantile(0.98)).all()


def _flat_scene() -> tuple[Geometry, torch.Tensor, torch.Tensor]:
    """100 pixels from 1 to 10 away, what a metric network says of them, fifty times as much, and no
    sky."""
    depth = torch.linspace(1, 10, 100).view(1, 10, 10)
    intrinsics = torch.tensor([[[300.0, 0, 5], [0, 300, 5], [0, 0, 1]]])
    scene = Geometry(torch.eye(3, 4)[None], intrinsics, depth, torch.full_like(depth, 2), None)
    return scene, 50 * depth, torch.zeros_like(depth)


def test_depths_of_next_to_nothing_have_no_say_in_the_factor() -> None:
    scene, metric, sky = _flat_scene()
    assert scene.depth is not None
    scene.depth[0, 0, 0], metric[0, 0, 0] = 0.0009, 1e9
    scene.depth[0, 0, 1], metric[0, 0, 1] = 1e3, 0.009
    assert in_metres(scene, metric, sky)[1] == pytest.approx(50)


def test_a_scene_may_have_more_pixels_than_torch_takes_quantiles_of(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*given: object, **named: object) -> None:
        raise RuntimeError("quantile() input tensor is too large")

    monkeypatch.setattr(torch, "quantile", refuse)
    monkeypatch.setattr(torch.Tensor, "quantile", refuse)
    scene, metric, sky = _flat_scene()
    scene = replace(scene, confidence=torch.linspace(1, 2, 100).view(1, 10, 10))
    metric[0, :5] = 7.0  # the less sure half: the median lies between two pixels
    assert in_metres(scene, metric, sky)[1] == pytest.approx(50)


def test_the_sky_is_at_most_200_metres_away() -> None:
    scene, metric, sky = _flat_scene()
    sky[0, :5] = 1
    found, _ = in_metres(scene, metric, sky)
    assert found.depth is not None
    assert (found.depth[0, :5] == 200).all()
    assert found.depth[0, 5:].max() == pytest.approx(500)


def test_only_a_metric_network_of_the_family_gives_metres(
    any_view: Network, metric: Network, pictures: list[Image.Image]
) -> None:
    mono, other = filled(depth_anything_3("mono")), filled(pi3())
    for net, second in ((any_view, mono), (any_view, any_view), (metric, metric), (other, metric)):
        with pytest.raises(ValueError, match="to bring one of"):
            reconstruct(net, pictures, metric=second)
