from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from kernels import FORMATS, DequantizedLinear, KernelPath, QuantizedLinear
from kernels.fastest import Fastest, Way
from model.network import execution

FASTEST = {"attention": "int8", "dense_heads": "bfloat16"}


def _device(
    monkeypatch: pytest.MonkeyPatch, bfloat16: bool, *operators: str, **limits: Any
) -> None:
    """A device with native kernels for some operators."""
    path = KernelPath("a path", operators=frozenset(operators), **limits)
    monkeypatch.setattr(execution, "kernel_path", lambda device: path)
    monkeypatch.setattr(execution, "computes_bfloat16", lambda device: bfloat16)


def test_a_device_that_is_faster_in_everything_leaves_nothing_unused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _device(monkeypatch, True, "linear", "int8_attention")
    assert execution.unused(FASTEST, "cpu") == ()


def test_what_is_slower_is_named_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    _device(monkeypatch, False, "linear")
    assert execution.unused(FASTEST, "cuda:0") == (
        "attention runs in float: there is no 8-bit kernel for it on cuda",
        "dense heads run in float32: this cuda is slower in bfloat16",
    )


def test_what_was_not_permitted_is_not_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    _device(monkeypatch, False)
    assert execution.unused({"attention": "float", "dense_heads": "float32"}, "cpu") == ()


def _network() -> nn.Module:
    layers = [("w4a4", 64), ("w4a4", 96), ("w4a16", 64), ("w4a16", 64)]
    weights = [(FORMATS[scheme], torch.randn(8, width)) for scheme, width in layers]
    return nn.Sequential(*(QuantizedLinear.from_float(*weight) for weight in weights))


def test_layers_without_a_kernel_are_counted_by_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    _device(monkeypatch, True, "linear", fits=lambda width, rotated: width == 64)
    assert execution.in_plain_torch(_network(), "cuda") == (
        "1 w4a4 layers of 96 features run in plain torch",
        "2 w4a16 layers of 64 features run in plain torch",
    )


def test_where_no_kernel_is_native_the_path_itself_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        execution, "kernel_path", lambda device: KernelPath("reference", "no compiler")
    )
    assert execution.in_plain_torch(_network(), "cpu") == ()


class _Times(Fastest):
    """A table in which floats take so much of the time of codes."""

    def __init__(self, folder: Path, ratios: dict[str, float]) -> None:
        super().__init__(folder, "a machine", torch.device("cpu"))
        self.ratios = ratios

    def choose(self, what: str, ways: Mapping[str, Way]) -> str:
        codes, floats = ways
        for run in ways.values():
            run()
        ratio = next(ratio for part, ratio in self.ratios.items() if part in what)
        return floats if ratio < 1 else codes


def test_layers_that_are_faster_in_floats_run_in_them_and_this_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(execution, "_TOKENS", 16)
    ratios = {"in_features=64": 0.9, "in_features=96": 1.1}
    _device(monkeypatch, True, "linear", times=_Times(tmp_path, ratios))
    net = _network()
    quantised = list(net)
    execution.use_faster_floats(net, "cpu", None)
    changed = [isinstance(layer, DequantizedLinear) for layer in net]
    assert changed == [True, False, True, True]
    assert execution.in_floats(net) == (
        "1 w4a4 layers of 64 features run in bfloat16, which is faster here",
        "2 w4a16 layers of 64 features run in bfloat16, which is faster here",
    )
    x = torch.randn(3, 64)
    exact = quantised[2](x)
    assert (net[2](x) - exact).norm() < 0.02 * exact.norm()


def test_floats_take_no_more_memory_than_they_may(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(execution, "_TOKENS", 16)
    _device(monkeypatch, True, "linear", times=_Times(tmp_path, {"": 0.5}))
    net = _network()
    execution.use_faster_floats(net, "cpu", 2 * 2 * 64 * 8)  # the first kind takes half of it
    changed = [isinstance(layer, DequantizedLinear) for layer in net]
    assert changed == [True, False, False, False]


def test_without_measured_times_codes_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    _device(monkeypatch, True, "linear")
    net = _network()
    execution.use_faster_floats(net, "cpu", None)
    assert all(isinstance(layer, QuantizedLinear) for layer in net)
    assert execution.in_floats(net) == ()


@pytest.mark.parametrize(
    ("device", "bfloat16", "enabled"),
    [("cpu", True, False), ("cuda", True, True), ("cuda:1", False, False)],
)
def test_only_a_gpu_with_bfloat16_runs_under_autocast(
    device: str, bfloat16: bool, enabled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Any, ...]] = []

    def autocast(kind: str, dtype: torch.dtype, enabled: bool) -> Any:
        asked.append((kind, dtype, enabled))
        return nullcontext()

    monkeypatch.setattr(torch, "autocast", autocast)
    _device(monkeypatch, bfloat16)
    with execution.autocast(device):
        pass
    assert asked == [(torch.device(device).type, torch.bfloat16, enabled)]
