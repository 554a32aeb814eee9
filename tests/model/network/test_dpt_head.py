from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from model.network import dpt_head
from model.network.config import DPTHeadConfig
from model.network.dpt_head import Conv2d, DPTHead, FusionBlock

PATCH, GRID = 14, (3, 4)
SIZE = (PATCH * GRID[0], PATCH * GRID[1])


def _head() -> DPTHead:
    torch.manual_seed(0)
    config = DPTHeadConfig(
        features=16, out_channels=(8, 8, 16, 16), intermediate_layer_idx=(0, 1, 2, 3)
    )
    return DPTHead(32, PATCH, 5, config).requires_grad_(False)


def _tokens(frames: int = 3) -> dict[int, torch.Tensor]:
    torch.manual_seed(1)
    return {layer: torch.randn(2, frames, 5 + GRID[0] * GRID[1], 32) for layer in range(4)}


def test_one_value_and_one_confidence_per_pixel() -> None:
    values, confidence = _head()(_tokens(), SIZE)
    assert values.shape == (2, 3, *SIZE, 1)
    assert confidence.shape == (2, 3, *SIZE)
    assert (values > 0).all()
    assert (confidence >= 1).all()


def test_a_memory_budget_that_holds_no_frame_still_decodes_one_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = _head()(_tokens(), SIZE)
    monkeypatch.setattr(dpt_head, "CHUNK_BYTES", 1)
    for got, want in zip(_head()(_tokens(), SIZE), expected, strict=True):
        torch.testing.assert_close(got, want)


@pytest.mark.parametrize(
    ("memory", "expected"), [(4 * 2**30, 2**28), (24 * 2**30, 3 * 2**28), (140 * 2**30, 2**32)]
)
def test_a_gpu_decodes_as_many_frames_at_a_time_as_its_memory_allows(
    monkeypatch: pytest.MonkeyPatch, memory: int, expected: int
) -> None:
    properties = SimpleNamespace(total_memory=memory)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    assert dpt_head.chunk_bytes(torch.device("cuda", 0)) == expected
    assert dpt_head.chunk_bytes(torch.device("cpu")) == dpt_head.CHUNK_BYTES


def test_the_number_of_threads_changes_no_bit() -> None:
    torch.manual_seed(0)
    config = DPTHeadConfig(
        features=64, out_channels=(32, 48, 64, 64), intermediate_layer_idx=(0, 1, 2, 3)
    )
    head = DPTHead(256, PATCH, 5, config).requires_grad_(False)
    tokens = {layer: torch.randn(1, 3, 5 + GRID[0] * GRID[1], 256) for layer in range(4)}
    before = torch.get_num_threads()
    found = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        found.append(head(tokens, SIZE))
    torch.set_num_threads(before)
    for other in found[1:]:
        assert all(map(torch.equal, other, found[0]))


def test_bfloat16_convolutions_stay_close_and_return_float32(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dpt_head, "computes_bfloat16", lambda device: True)
    head, tokens = _head(), _tokens()
    expected, _ = head(tokens, SIZE)
    head.arithmetic = "bfloat16"
    got, _ = head(tokens, SIZE)
    assert got.dtype == torch.float32
    assert all(parameter.dtype == torch.float32 for parameter in head.parameters())
    assert 0 < ((got / expected).log().abs()).max() < 0.05


def test_where_bfloat16_is_slow_the_convolutions_run_in_float32(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dpt_head, "computes_bfloat16", lambda device: False)
    head, tokens = _head(), _tokens()
    expected, _ = head(tokens, SIZE)
    head.arithmetic = "bfloat16"
    assert head.dtype(torch.device("cpu")) == torch.float32
    assert torch.equal(head(tokens, SIZE)[0], expected)


@torch.no_grad()
def test_large_convolutions_take_fewer_products_only_where_less_precision_is_permitted() -> None:
    head = _head()
    assert not any(getattr(module, "may_round", False) for module in head.modules())
    head.arithmetic = "bfloat16"
    assert all(module.may_round for module in head.modules() if isinstance(module, Conv2d))
    large = Conv2d(128, 128, 3, padding=1).requires_grad_(False)
    x = torch.randn(1, 128, 32, 32)
    plain, half = large(x), large(x.bfloat16())
    large.may_round = True
    assert not torch.equal(large(x), plain)
    torch.testing.assert_close(large(x), plain, rtol=0, atol=3e-5)
    assert torch.equal(large(x.bfloat16()), half)
    coarse = Conv2d(128, 128, 3, stride=2, padding=1).requires_grad_(False)
    plain = coarse(x)
    coarse.may_round = True
    assert torch.equal(coarse(x), plain)


def test_channels_may_be_mixed_before_the_resize() -> None:
    torch.manual_seed(0)
    block = FusionBlock(8).requires_grad_(False)
    x, skip = torch.randn(1, 8, 5, 6), torch.randn(1, 8, 5, 6)
    fused = x + block.resConfUnit1(skip)
    after = block.out_conv(dpt_head._resize(block.resConfUnit2(fused), (9, 11)))
    torch.testing.assert_close(block(x, skip, (9, 11)), after, atol=1e-5, rtol=1e-5)


def test_no_frame_at_a_time_is_refused() -> None:
    with pytest.raises(ValueError, match="frames_chunk_size is 0; expected at least 1"):
        _head()(_tokens(), SIZE, frames_chunk_size=0)
