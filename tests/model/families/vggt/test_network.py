from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from model import VGGT, VGGTConfig
from model.families.vggt.presets import PRESETS
from model.files.checkpoint import build_empty
from model.network import dpt_head
from model.network.track_head import CorrelationPyramid


def test_vggt_1b_has_the_public_checkpoints_names_and_shapes() -> None:
    listed = json.loads(
        (Path(__file__).parents[3] / "parity" / "vggt_1b_state_dict.json").read_text()
    )
    state = build_empty(PRESETS["vggt-1b"]).state_dict()
    assert {name: list(tensor.shape) for name, tensor in state.items()} == {
        k: v["shape"] for k, v in listed.items()
    }
    assert sum(tensor.numel() for tensor in state.values()) == 1_256_537_516


@torch.no_grad()
def test_one_frame_without_a_batch_axis_is_enough(net: VGGT) -> None:
    prediction = net(torch.rand(1, 3, 28, 42))
    assert prediction.pose_enc.shape == (1, 1, 9)
    assert prediction.depth.shape == (1, 1, 28, 42, 1)
    assert prediction.depth_conf.shape == (1, 1, 28, 42)
    assert prediction.world_points.shape == (1, 1, 28, 42, 3)
    assert prediction.track is None


@torch.no_grad()
def test_query_points_are_tracked_through_every_frame(net: VGGT) -> None:
    prediction = net(
        torch.rand(3, 3, 28, 42), query_points=torch.tensor([[3.0, 4.0], [20.0, 10.0]])
    )
    assert prediction.track.shape == (1, 3, 2, 2)
    torch.testing.assert_close(prediction.track[0, 0], torch.tensor([[3.0, 4.0], [20.0, 10.0]]))
    assert ((prediction.vis >= 0) & (prediction.vis <= 1)).all()


@torch.no_grad()
def test_heads_in_chunks_of_frames_change_nothing(net: VGGT) -> None:
    images = torch.rand(1, 11, 3, 28, 28)
    tokens = net.aggregator(images, net.depth_head.layers)
    whole, _ = net.depth_head(tokens, (28, 28), frames_chunk_size=11)
    parts, _ = net.depth_head(tokens, (28, 28), frames_chunk_size=2)
    torch.testing.assert_close(whole, parts)


@torch.no_grad()
def test_how_images_lie_in_memory_changes_no_bit(net: VGGT) -> None:
    images, points = torch.rand(3, 3, 56, 42), torch.rand(4, 2) * 40
    other = images.contiguous(memory_format=torch.channels_last)
    got, want = net(other, points), net(images, points)
    given = [name for name, value in vars(want).items() if value is not None]
    assert len(given) == 8
    for name in given:
        assert torch.equal(getattr(got, name), getattr(want, name)), name


@torch.no_grad()
def test_later_frames_are_interchangeable(net: VGGT) -> None:
    images = torch.rand(1, 4, 3, 28, 28)
    order = [0, 3, 1, 2]
    torch.testing.assert_close(
        net(images).pose_enc[:, order], net(images[:, order]).pose_enc, atol=1e-4, rtol=1e-4
    )


@torch.no_grad()
def test_only_the_layers_that_heads_read_are_kept(net: VGGT) -> None:
    assert set(net.aggregator(torch.rand(1, 2, 3, 28, 28), {1})) == {1}


@torch.no_grad()
@pytest.mark.parametrize("head", ["camera", "depth", "point", "track"])
def test_a_head_that_is_left_out_predicts_nothing(config: VGGTConfig, head: str) -> None:
    kept = tuple(name for name in config.heads if name != head)
    net = VGGT(config.with_heads(kept))
    prediction = net(torch.rand(2, 3, 28, 28))
    fields = {"camera": "pose_enc", "depth": "depth", "point": "world_points", "track": "track"}
    assert getattr(prediction, fields[head]) is None
    assert not any(name.startswith(f"{head}_head") for name in net.state_dict())


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((3, 28, 28), "expected"),
        ((2, 1, 28, 28), "expected"),
        ((0, 3, 28, 28), "expected"),
        ((2, 3, 28, 30), "both sides must be multiples of 14"),
    ],
)
def test_images_of_another_shape_are_refused(
    net: VGGT, shape: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        net(torch.rand(shape))


def test_pixels_of_8_bits_are_refused(net: VGGT) -> None:
    with pytest.raises(ValueError, match=r"torch\.uint8; expected .* divide 8-bit pixels by 255"):
        net(torch.zeros(1, 3, 28, 28, dtype=torch.uint8))


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_images_and_points_may_be_of_any_floating_point_type(net: VGGT, dtype: torch.dtype) -> None:
    images, points = torch.rand(2, 3, 28, 42).half(), torch.tensor([[3.5, 20.0]])
    found = net(images.to(dtype), points.to(dtype))
    expected = net(images.float(), points)
    assert torch.equal(found.depth, expected.depth)
    assert torch.equal(found.track, expected.track)


def test_query_points_without_a_tracker_are_refused(config: VGGTConfig) -> None:
    net = VGGT(config.with_heads(("camera",)))
    with pytest.raises(ValueError, match="without its track head"):
        net(torch.rand(1, 3, 28, 28), torch.rand(2, 2))


def test_query_points_of_another_shape_are_refused(net: VGGT) -> None:
    for shape in ((2, 3), (2, 1, 2), (0, 2)):
        with pytest.raises(ValueError, match=r"expected \[1, N, 2\]"):
            net(torch.rand(1, 3, 28, 28), torch.rand(shape))


def test_pictures_too_small_to_track_in_are_refused() -> None:
    with pytest.raises(ValueError, match="too small for 7 correlation levels"):
        CorrelationPyramid(torch.rand(1, 1, 4, 20, 20), levels=7, radius=4)


@torch.no_grad()
def test_reduced_arithmetic_is_off_until_it_is_asked_for(
    net: VGGT, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dpt_head, "computes_bfloat16", lambda device: True)
    assert (net.attention, net.dense_heads) == ("float", "float32")
    images = torch.rand(2, 3, 28, 42)
    exact = net(images)
    net.attention, net.dense_heads = "int8", "bfloat16"
    assert (net.attention, net.dense_heads) == ("int8", "bfloat16")
    reduced = net(images)
    assert not torch.equal(reduced.depth, exact.depth)
    torch.testing.assert_close(reduced.depth, exact.depth, atol=0, rtol=0.1)


@pytest.mark.parametrize(
    ("switch", "message"),
    [
        ("attention", "attention is 'int9'; expected one of float, int8"),
        ("dense_heads", "dense_heads is 'int9'; expected one of float32, bfloat16"),
    ],
)
def test_unknown_arithmetic_is_refused(net: VGGT, switch: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        setattr(net, switch, "int9")
