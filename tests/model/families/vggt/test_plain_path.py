"""A pass holds and computes a few frames, tokens and heads at a time; none of that changes a bit.

The plain path below computes every step of a pass as a whole."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef

from kernels import FORMATS, QuantizedLinear, ops
from model import VGGT, Prediction
from model.families.vggt.aggregator import patch_tokens
from model.files.artifact import replace_linear
from model.network import attention, parts
from model.network.activations import activate_dense
from model.network.dpt_head import DPTHead
from model.network.keys import kept_tokens
from model.network.position_maps import add_view_position_
from model.network.rope import Rotation
from model.network.transformer import Block


def _plain_block(
    block: Block, x: Tensor, rope: Rotation | None = None, keys: Tensor | None = None
) -> Tensor:
    attention = block.attn
    q, k, v = attention.heads(x, rope, block.norm1)
    if keys is not None:
        k, v = k[:, :, keys], v[:, :, keys]
    if attention.arithmetic == "int8":
        mixed = ops.int8_attention(q, k, v)
    else:
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2)
    x = attention.proj(mixed.flatten(2), layer_scale=block.ls1.gamma, residual=x)
    hidden = block.mlp.fc1(x, norm=block.norm2)
    plain: Tensor = block.mlp.fc2(hidden, gelu=True, layer_scale=block.ls2.gamma, residual=x)
    return plain


def _plain_layers(net: VGGT, images: Tensor, keys: Tensor | None) -> dict[int, Tensor]:
    aggregator = net.aggregator
    encoder = aggregator.patch_embed
    tokens = encoder.embed(aggregator.normalise(images))
    for block in encoder.blocks:
        tokens = _plain_block(block, tokens)
    batch, frames = images.shape[:2]
    tokens = aggregator.with_special_tokens(patch_tokens(encoder.finish(tokens)), batch, frames)
    rope = aggregator.rope(images, tokens.dtype)
    blocks = {"frame": aggregator.frame_blocks, "global": aggregator.global_blocks}
    halves: dict[str, dict[int, Tensor]] = {"frame": {}, "global": {}}
    for kind, layer in aggregator.schedule:
        arranged = aggregator.arrange(tokens, kind, batch, frames)
        looked_at = keys if kind == "global" else None
        tokens = _plain_block(blocks[kind][layer], arranged, rope, looked_at)
        halves[kind][layer] = tokens.view(batch, frames, -1, tokens.shape[-1])
    return {
        layer: torch.cat((halves["frame"][layer], halves["global"][layer]), dim=-1)
        for layer in range(net.config.depth)
    }


def _plain_maps(head: DPTHead, tokens: dict[int, Tensor], size: tuple[int, int]) -> Tensor:
    height, width = size
    grid = (height // head.patch_size, width // head.patch_size)
    maps = []
    for index, layer in enumerate(head.layers):
        patches = head.norm(tokens[layer].flatten(0, 1)[:, head.patch_start :])
        patches = patches.to(head.dtype(patches.device))
        level = head.projects[index](patches.unflatten(1, grid).permute(0, 3, 1, 2))
        if head.config.pos_embed:
            level = add_view_position_(level, width / height)
        maps.append(getattr(head.scratch, f"layer{index + 1}_rn")(head.resize_layers[index](level)))
    ratio = head.config.down_ratio
    fused = F.interpolate(
        head.scratch.fuse(maps),
        size=(height // ratio, width // ratio),
        mode="bilinear",
        align_corners=True,
    )
    return add_view_position_(fused, width / height) if head.config.pos_embed else fused


def _plain(
    net: VGGT, images: Tensor, query_points: Tensor | None = None, keys: Tensor | None = None
) -> Prediction:
    tokens = _plain_layers(net, images, keys)
    size, frames = (images.shape[-2], images.shape[-1]), images.shape[:2]
    found: dict[str, Tensor | None] = {
        "pose_enc": net.camera_head(tokens[net.config.depth - 1][:, :, 0])[-1]
    }
    for head, names in (
        (net.depth_head, ("depth", "depth_conf")),
        (net.point_head, ("world_points", "world_points_conf")),
    ):
        if head is None:
            continue
        first, relu, last = head.scratch.output_conv2
        raw = last(relu(first(_plain_maps(head, tokens, size))).float())
        dense = activate_dense(raw, head.config.activation, head.config.conf_activation)
        found |= {
            name: value.unflatten(0, frames) for name, value in zip(names, dense, strict=True)
        }
    if query_points is not None:
        head = net.track_head
        maps = _plain_maps(head.feature_extractor, tokens, size).unflatten(0, frames).float()
        tracks = head.tracker(query_points, maps, head.config.iters)
        found |= {
            "track": tracks.coords[-1],
            "vis": tracks.visibility,
            "conf": tracks.confidence,
        }
    return Prediction(**found)


@pytest.fixture
def quantised(net: VGGT) -> VGGT:
    for name, module in list(net.aggregator.named_modules()):
        if isinstance(module, nn.Linear):
            layer = QuantizedLinear.from_float(FORMATS["w4a4"], module.weight, module.bias)
            replace_linear(net, f"aggregator.{name}", layer)
    return net.requires_grad_(False)


@pytest.fixture
def few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A frame of 28 x 42 pixels has 11 tokens: two of them go through a block at a time, and the
    heads of attention over the scene one by one."""
    monkeypatch.setattr(parts, "TOKENS_AT_ONCE", {"cpu": 23})
    monkeypatch.setattr(attention, "_HEADS_AT_ONCE", 1)


@pytest.mark.usefixtures("few_at_a_time")
@torch.no_grad()
@pytest.mark.parametrize("attention", ["float", "int8"])
@pytest.mark.parametrize("frames", [1, 2, 3, 7])
@pytest.mark.parametrize(("scenes", "tracked"), [(1, False), (2, True)])
def test_a_few_at_a_time_give_the_bits_of_the_whole(
    quantised: VGGT, attention: str, frames: int, scenes: int, tracked: bool
) -> None:
    quantised.attention = attention
    generator = torch.Generator().manual_seed(frames)
    images = torch.rand(scenes, frames, 3, 28, 42, generator=generator)
    query_points = 20 * torch.rand(scenes, 3, 2, generator=generator) if tracked else None
    expected = _plain(quantised, images, query_points)
    got = quantised(images, query_points)
    _assert_equal(got, expected)


@pytest.mark.usefixtures("few_at_a_time")
@torch.no_grad()
@pytest.mark.parametrize("point_head", [True, False])
@pytest.mark.parametrize("dense_heads", ["float32", "bfloat16"])
@pytest.mark.parametrize(("height", "width"), [(28, 42), (42, 70), (14, 14)])
def test_no_grid_and_no_head_changes_the_bits(
    quantised: VGGT, point_head: bool, dense_heads: str, height: int, width: int
) -> None:
    quantised.attention, quantised.dense_heads = "int8", dense_heads
    if not point_head:
        quantised.point_head = None
    images = torch.rand(1, 3, 3, height, width, generator=torch.Generator().manual_seed(0))
    _assert_equal(quantised(images), _plain(quantised, images))


@pytest.mark.usefixtures("few_at_a_time")
@torch.no_grad()
@pytest.mark.parametrize("attention", ["float", "int8"])
@pytest.mark.parametrize(("budget", "factor"), [(1000, 1), (60, 2), (50, 4), (1, 16)])
def test_a_budget_of_keys_leaves_out_patches_of_the_grid(
    quantised: VGGT, attention: str, budget: int, factor: int
) -> None:
    quantised.attention = attention
    images = torch.rand(2, 6, 3, 28, 42, generator=torch.Generator().manual_seed(0))
    keys = kept_tokens(factor, 6, 2, 3, 5)
    expected = _plain(quantised, images, keys=keys)
    _assert_equal(quantised(images, attention_keys=budget), expected)
    whole = quantised(images)
    assert torch.equal(whole.depth, expected.depth) == (factor == 1)


def _assert_equal(got: Prediction, expected: Prediction) -> None:
    for name, value in vars(expected).items():
        found = getattr(got, name)
        assert (found is None) == (value is None), name
        assert value is None or torch.equal(found, value), name


@pytest.mark.usefixtures("few_at_a_time")
@torch.no_grad()
def test_a_few_at_a_time_are_close_to_the_whole_in_float(
    net: VGGT, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The height of a float product may change its last bits."""
    images = torch.rand(2, 5, 3, 28, 42)
    few = net(images)
    monkeypatch.setattr(parts, "TOKENS_AT_ONCE", {})
    whole = net(images)
    for name in ("pose_enc", "depth", "depth_conf", "world_points", "world_points_conf"):
        torch.testing.assert_close(getattr(few, name), getattr(whole, name), atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_the_heads_let_go_of_a_layer_before_the_next_block(net: VGGT) -> None:
    """Only what a block takes and what it gives is held, whatever the heads read."""
    held: list[int] = []
    given: list[StorageWeakRef] = []

    def note(block: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> None:
        given.append(StorageWeakRef(output.untyped_storage()))
        held.append(sum(not storage.expired() for storage in given))

    for blocks in (net.aggregator.frame_blocks, net.aggregator.global_blocks):
        for block in blocks:
            block.register_forward_hook(note)
    net(torch.rand(2, 3, 28, 42), torch.rand(2, 2) * 20)
    assert held == [1, 2, 2, 2]
