from __future__ import annotations

import torch
from torch import Tensor

from model import VGGT
from quantization.calibration.stages import Stream, Walk
from quantization.convert import reader


def test_walking_the_stages_is_running_the_network(net: VGGT, pictures: list[Tensor]) -> None:
    walk = Walk(net.config, reader(net), pictures)
    stream = Stream(walk)
    for stage in walk.stages:
        stream.enter(stage)
        stream.advance(stage, walk.fill_stage(stage))
    for images, encodings in zip(pictures, stream.tokens, strict=True):
        with torch.no_grad():
            expected = net(images).pose_enc
        torch.testing.assert_close(encodings[-1], expected, atol=1e-5, rtol=1e-4)


def test_global_blocks_see_all_frames_of_a_sample_at_once(
    net: VGGT, pictures: list[Tensor]
) -> None:
    walk = Walk(net.config, reader(net), pictures)
    stream = Stream(walk)
    shapes = {}
    for stage in walk.stages:
        stream.enter(stage)
        shapes[stage.name.split(".")[-2:][0] if stage.kind != "head" else stage.name] = tuple(
            stream.tokens[2].shape
        )
        stream.advance(stage, walk.fill_stage(stage))
    tokens = 1 + 4 + 3 * 2  # camera, registers, patches of 42 x 28 pixels
    assert shapes["frame_blocks"] == (2, tokens, 32)
    assert shapes["global_blocks"] == (1, 2 * tokens, 32)
    assert shapes["camera_head"] == (1, 2, 64)


def test_only_the_current_stage_is_filled(net: VGGT, pictures: list[Tensor]) -> None:
    walk = Walk(net.config, reader(net), pictures)
    first = walk.stages[0]
    walk.fill_stage(first)
    filled = {name for name, parameter in walk.net.named_parameters() if not parameter.is_meta}
    others = [stage.name for stage in walk.stages[1:]]
    assert any(name.startswith(first.name) for name in filled)
    assert not any(name.startswith(tuple(f"{other}." for other in others)) for name in filled)


def test_layers_come_in_the_order_in_which_they_run(net: VGGT, pictures: list[Tensor]) -> None:
    walk = Walk(net.config, reader(net), pictures)
    assert walk.linears(walk.stages[0]) == ["attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"]
    assert walk.linears(walk.stages[-1])[0] == "trunk.0.attn.qkv"
