from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import nn

from kernels import FORMATS, KernelPath, QuantizedLinear
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
