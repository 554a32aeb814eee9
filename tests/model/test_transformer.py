from __future__ import annotations

import torch

from kernels import W4A4Linear
from model.transformer import Block


def _quantized_block() -> Block:
    torch.manual_seed(0)
    block = Block(64, num_heads=2, qk_norm=True).eval().requires_grad_(False)
    for owner, name in ((block.attn, "qkv"), (block.attn, "proj"), (block.mlp, "fc1"), (block.mlp, "fc2")):
        linear = getattr(owner, name)
        setattr(owner, name, W4A4Linear.from_float(linear.weight, linear.bias))
    return block


def test_a_quantised_block_keeps_its_stream_in_float32_under_autocast() -> None:
    block, x = _quantized_block(), torch.randn(1, 9, 64)
    with torch.inference_mode():
        exact = block(x)
        with torch.autocast("cpu", torch.bfloat16):
            y = block(x)
    assert y.dtype == torch.float32
    torch.testing.assert_close(y, exact, atol=0.05, rtol=0)
