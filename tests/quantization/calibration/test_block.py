from __future__ import annotations

import pytest
import torch
from torch import Tensor

from kernels import QuantizedLinear
from model import VGGT
from quantization.calibration.block import observe, quantize_stage
from quantization.calibration.stages import Stream, Walk
from quantization.convert import reader
from quantization.recipe import RECIPES, Recipe

BEST = RECIPES["best"]


def _first_stage(
    net: VGGT, pictures: list[Tensor], recipe: Recipe
) -> tuple[Walk, Stream, Stream, list[object]]:
    walk = Walk(net.config, reader(net), pictures)
    meant, seen = Stream(walk), Stream(walk)
    stage = walk.stages[0]
    for stream in (meant, seen):
        stream.enter(stage)
    return walk, meant, seen, list(quantize_stage(walk, stage, meant, seen, recipe).records)


@pytest.mark.parametrize("recipe", ["quarot", "dsfq-static", "best"])
def test_all_layers_of_a_stage_become_quantised_and_both_streams_move_on(
    net: VGGT, pictures: list[Tensor], recipe: str
) -> None:
    walk, meant, seen, records = _first_stage(net, pictures, RECIPES[recipe])
    block = walk.net.get_submodule(walk.stages[0].name)
    assert sum(isinstance(m, QuantizedLinear) for m in block.modules()) == 4
    assert len(records) == 4
    true = Walk(net.config, reader(net), pictures)
    expected = Stream(true)
    expected.enter(true.stages[0])
    expected.advance(true.stages[0], true.fill_stage(true.stages[0]))
    for ours, theirs, rounded in zip(meant.tokens, expected.tokens, seen.tokens, strict=True):
        # folding leaves the float block as it was
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
        distance = (rounded - theirs).norm() / theirs.norm()
        assert 0 < distance < 0.3


def test_our_recipe_leaves_less_error_than_rounding(net: VGGT, pictures: list[Tensor]) -> None:
    _, meant, seen, _ = _first_stage(net, pictures, BEST.with_parts(image_encoder="w4a4"))
    _, _, plain, _ = _first_stage(
        net, pictures, Recipe(rotate=False).with_parts(image_encoder="w4a4")
    )

    def error(stream: Stream) -> float:
        return sum(
            float((a - b).square().sum()) for a, b in zip(stream.tokens, meant.tokens, strict=True)
        )

    assert error(seen) < 0.6 * error(plain)


def test_a_layer_that_is_called_several_times_is_seen_every_time(
    net: VGGT, pictures: list[Tensor]
) -> None:
    walk = Walk(net.config, reader(net), pictures)
    stream = Stream(walk)
    for stage in walk.stages:
        stream.enter(stage)
        module = walk.fill_stage(stage)
        if stage.kind == "head":
            rows = observe(walk, stage, module, ["trunk.0.attn.qkv"], stream)["trunk.0.attn.qkv"]
        stream.advance(stage, module)
    iterations = 4
    assert [tuple(sample.shape) for sample in rows] == [(1, 2 * iterations, 64)] * 3


def test_records_tell_special_tokens_from_patches(net: VGGT, pictures: list[Tensor]) -> None:
    with torch.no_grad():
        register = net.aggregator.register_token
        register[..., 3] += 50.0
    walk = Walk(net.config, reader(net), pictures)
    meant = Stream(walk)
    records = []
    for stage in walk.stages[:2]:
        meant.enter(stage)
        records += quantize_stage(walk, stage, meant, None, Recipe()).records
    fed = records[4].inputs  # qkv of the first frame block
    assert records[4].name == "aggregator.frame_blocks.0.attn.qkv"
    assert fed is not None
    assert fed.special.kurtosis > 2 * fed.patches.kurtosis
