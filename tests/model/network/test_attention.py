from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from kernels import KernelPath, kernel_path
from model.network import attention as attention_module
from model.network import parts
from model.network.attention import Attention
from model.network.rope import patch_positions, rotation

DIM, HEADS = 64, 2


def _path(*operators: str) -> Callable[[torch.device], KernelPath]:
    return lambda device: KernelPath("a path", operators=frozenset(operators))


@torch.no_grad()
def test_8_bit_attention_stays_close_to_float_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention_module, "kernel_path", _path("int8_attention"))
    torch.manual_seed(0)
    attention, x = Attention(DIM, HEADS, qk_norm=True), torch.randn(2, 100, DIM)
    expected = attention(x)
    attention.arithmetic = "int8"
    assert 0 < (attention(x) - expected).norm() < 0.02 * expected.norm()


@torch.no_grad()
def test_where_8_bit_attention_has_no_kernel_torch_attends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention_module, "kernel_path", _path("linear"))
    attention, x = Attention(DIM, HEADS), torch.randn(2, 10, DIM)
    expected = attention(x)
    attention.arithmetic = "int8"
    assert torch.equal(attention(x), expected)


@torch.no_grad()
@pytest.mark.parametrize("arithmetic", ["float", "int8"])
@pytest.mark.parametrize("rotated", [True, False])
@pytest.mark.parametrize("fewer", [True, False])
@pytest.mark.parametrize("operators", [("int8_attention", "packed_attention"), ("int8_attention",)])
def test_a_few_queries_or_heads_at_a_time_are_close_to_all_at_once(
    arithmetic: str,
    rotated: bool,
    fewer: bool,
    operators: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(0)
    attention, x = Attention(DIM, HEADS, qk_norm=True), torch.randn(2, 6 * 13, DIM)
    attention.arithmetic = arithmetic
    rope = rotation(patch_positions(3, 4, 1), DIM // HEADS) if rotated else None
    keys = torch.tensor([0, 5, 13, 14, 40, 77]) if fewer else None
    monkeypatch.setattr(attention_module, "kernel_path", _path(*operators))
    whole = attention(x, rope, keys=keys)
    monkeypatch.setattr(parts, "TOKENS_AT_ONCE", {"cpu": 30})
    monkeypatch.setattr(attention_module, "_HEADS_AT_ONCE", 1)
    # a float product's height may change its last bits, and those a code
    torch.testing.assert_close(attention(x, rope, keys=keys), whole, atol=2e-3, rtol=0)


def test_the_processor_packs_keys_wherever_it_attends_in_8_bits() -> None:
    operators = kernel_path("cpu").operators
    assert ("packed_attention" in operators) == ("int8_attention" in operators)
