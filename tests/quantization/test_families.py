"""Every recipe on every family, on tiny random networks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from kernels import QuantizedLinear
from model import families
from model.files import artifact
from model.network import parts
from model.network.network import Network
from quantization.calibration import samples
from quantization.calibration.stages import Stream, Walk
from quantization.convert import quantize_network, reader
from quantization.folding import centred, fold_layer_scales, fold_means, fold_norms
from quantization.recipe import RECIPES
from tests.model.families.networks import TINY


@pytest.fixture(params=TINY)
def net(request: pytest.FixtureRequest) -> Network:
    return TINY[request.param]()


@pytest.fixture
def pictures() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(3, 3, 28, 42, generator=generator) for _ in range(2)]


@torch.no_grad()
def test_stage_by_stage_the_tokens_are_those_of_a_pass(
    net: Network, pictures: list[Tensor]
) -> None:
    seen: dict[str, list[Tensor]] = {}
    for stage in net.blocks():
        net.get_submodule(stage.name).register_forward_hook(
            lambda _, __, out, name=stage.name: seen.setdefault(name, []).append(out)
        )
    for sample in pictures:
        net(sample[None])
    walk = Walk(net.config, reader(net), pictures)
    stream = Stream(walk)
    for stage in walk.stages:
        stream.enter(stage)
        stream.advance(stage, walk.fill_stage(stage))
        for got, expected in zip(stream.tokens, seen.get(stage.name, ()), strict=False):
            torch.testing.assert_close(got, expected.view(got.shape), msg=stage.name)
    assert {stage.name for stage in net.blocks()} == set(seen)
    assert all(
        not value.is_meta
        for name, value in walk.net.named_parameters()
        if name in walk.steps.shared()
    )


@torch.no_grad()
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_quantises_every_part(
    net: Network, pictures: list[Tensor], recipe: str, tmp_path: Path
) -> None:
    family = families.of(net.config)
    chosen = RECIPES[recipe]
    if chosen.learning_epochs:
        chosen = replace(chosen, learning_epochs=1)
    made = quantize_network(net, chosen, pictures)
    layers = {n for n, m in made.named_modules() if isinstance(m, QuantizedLinear)}
    linears = {n for n, m in net.named_modules() if isinstance(m, nn.Linear)}
    assert layers == {n for n in linears if family.part_of(n) is not None}
    images = torch.stack(pictures)
    found, expected = made(images), net(images)
    assert found.depth.isfinite().all()
    error = (found.depth - expected.depth).norm() / expected.depth.norm()
    assert error < 0.3
    artifact.save(made, tmp_path / "artifact")
    again = artifact.load(tmp_path / "artifact")
    torch.testing.assert_close(again(images).depth, found.depth, rtol=0.05, atol=0.05)


@torch.no_grad()
def test_more_tokens_than_go_through_a_block_at_a_time_calibrate_alike(
    net: Network, pictures: list[Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = quantize_network(net, RECIPES["dsfq-static"], pictures)
    monkeypatch.setitem(parts.TOKENS_AT_ONCE, "cpu", 9)
    few = quantize_network(net, RECIPES["dsfq-static"], pictures)
    for (name, one), (_, other) in zip(
        whole.state_dict().items(), few.state_dict().items(), strict=True
    ):
        if one.is_floating_point():
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5, msg=name)


@torch.no_grad()
def test_folding_changes_no_block(net: Network) -> None:
    for stage in net.blocks():
        block = net.get_submodule(stage.name)
        x = torch.randn(2, 7, block.attn.proj.in_features)
        expected = block(x)
        fold_norms(block)
        widths = {name: block.get_submodule(name).in_features for name in centred(block)}
        fold_means(block, {name: torch.randn(width) for name, width in widths.items()})
        fold_layer_scales(block)
        torch.testing.assert_close(block(x), expected, rtol=1e-3, atol=1e-3)


def test_sampling_tells_samples_apart(net: Network) -> None:
    generator = torch.Generator().manual_seed(0)
    found = [
        samples.Sample(str(i), str(i), "room", torch.rand(3, 3, 28, 42, generator=generator))
        for i in range(3)
    ]
    features = samples.describe(net.config, reader(net), found)
    assert features.similarity.shape == (3, 2)
    assert features.means.isfinite().all()
    assert features.means.shape[1] == len(families.of(net.config).stages(net).deep)
