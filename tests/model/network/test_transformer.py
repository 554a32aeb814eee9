from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from kernels import FORMATS, QuantizedLinear
from model.network.attention import Attention
from model.network.rope import patch_positions, rotation
from model.network.transformer import Block

DIM, HEADS = 64, 2


def _block(qk_norm: bool = True) -> Block:
    torch.manual_seed(0)
    block = Block(DIM, HEADS, init_values=0.5, qk_norm=qk_norm)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return block.eval().requires_grad_(False)


def _quantised(block: Block, scheme: str) -> Block:
    for owner, name in (
        (block.attn, "qkv"),
        (block.attn, "proj"),
        (block.mlp, "fc1"),
        (block.mlp, "fc2"),
    ):
        linear = getattr(owner, name)
        setattr(
            owner, name, QuantizedLinear.from_float(FORMATS[scheme], linear.weight, linear.bias)
        )
    return block


@pytest.mark.parametrize("qk_norm", [True, False])
@pytest.mark.parametrize("with_rope", [True, False])
def test_a_block_is_attention_and_mlp_with_residuals(qk_norm: bool, with_rope: bool) -> None:
    block, x = _block(qk_norm), torch.randn(2, 1 + 12, DIM)
    rope = rotation(patch_positions(3, 4, 1), DIM // HEADS) if with_rope else None
    q, k, v = (
        block.attn.qkv(block.norm1(x)).view(2, 13, 3, HEADS, DIM // HEADS).permute(2, 0, 3, 1, 4)
    )
    q, k = block.attn.q_norm(q), block.attn.k_norm(k)
    if rope is not None:
        q, k = rope.apply(q), rope.apply(k)
    mixed = ((q @ k.transpose(-2, -1)) * (DIM // HEADS) ** -0.5).softmax(-1) @ v
    y = x + block.ls1(block.attn.proj(mixed.transpose(1, 2).flatten(2)))
    y = y + block.ls2(block.mlp.fc2(F.gelu(block.mlp.fc1(block.norm2(y)))))
    torch.testing.assert_close(block(x, rope), y, atol=1e-5, rtol=1e-5)


def test_gradients_do_not_depend_on_the_fused_path() -> None:
    block, x = _block(), torch.randn(1, 13, DIM)
    rope = rotation(patch_positions(3, 4, 1), DIM // HEADS)
    without = block(x, rope)
    block.requires_grad_(True)
    with_gradients = block(x, rope)
    torch.testing.assert_close(with_gradients, without, atol=1e-5, rtol=1e-5)
    with_gradients.sum().backward()
    assert all(parameter.grad is not None for parameter in block.parameters())


@pytest.mark.parametrize(
    ("scheme", "tolerance"), [("w8a8", 0.02), ("w4a8", 0.25), ("w4a4", 0.4), ("w4a16", 0.25)]
)
def test_a_quantised_block_stays_close_to_its_float_block(scheme: str, tolerance: float) -> None:
    x = torch.randn(1, 40, DIM, generator=torch.Generator().manual_seed(1))
    expected = _block()(x) - x
    got = _quantised(_block(), scheme)(x) - x
    assert (got - expected).norm() < tolerance * expected.norm()


def test_a_quantised_layer_is_called_once_with_all_that_surrounds_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[set[str]] = []
    forward = QuantizedLinear.forward

    def recorded(self: QuantizedLinear, x: torch.Tensor, **around: object) -> torch.Tensor:
        calls.append(
            {name for name, value in around.items() if value is not None and value is not False}
        )
        return forward(self, x, **around)

    monkeypatch.setattr(QuantizedLinear, "forward", recorded)
    with torch.no_grad():
        _quantised(_block(), "w4a4")(torch.randn(1, 5, DIM))
    around = [{"norm"}, {"layer_scale", "residual"}, {"norm"}, {"gelu", "layer_scale", "residual"}]
    assert calls == [parts | {"dtype"} for parts in around]


@torch.no_grad()
@pytest.mark.parametrize(("frames", "tokens"), [(3, 1000), (5, 600), (1, 3000)])
def test_taking_few_tokens_at_a_time_changes_nothing(frames: int, tokens: int) -> None:
    block, x = _block(), torch.randn(frames, tokens, DIM)
    mixed = block.attn(x, norm=block.norm1, scale=block.ls1, residual=x)
    torch.testing.assert_close(
        block(x), mixed + block.ls2(block.mlp(block.norm2(mixed))), atol=1e-5, rtol=1e-5
    )


def test_quantised_layers_give_the_narrow_type_under_autocast_as_torch_products_do() -> None:
    block, x = _quantised(_block(), "w4a8"), torch.randn(1, 9, DIM)
    types = {}
    for name in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"):
        block.get_submodule(name).register_forward_hook(
            lambda layer, given, output, name=name: types.update(
                {name: (given[0].dtype, output.dtype)}
            )
        )
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        block(x)
    wide, narrow = torch.float32, torch.bfloat16
    assert types == {
        "attn.qkv": (wide, narrow),
        "attn.proj": (narrow, wide),
        "mlp.fc1": (wide, narrow),
        "mlp.fc2": (narrow, wide),
    }


@pytest.mark.parametrize(
    ("frames", "tokens", "attended", "mixed"),
    [
        pytest.param(1, 5000, [1], [1374, 1374, 1374, 878], id="a scene attends as a whole"),
        pytest.param(3, 1000, [1, 1, 1], [1000, 1000, 1000], id="frames go one by one"),
        pytest.param(5, 600, [2, 2, 1], [1200, 1200, 600], id="small frames go several at a time"),
    ],
)
def test_a_cpu_takes_few_tokens_at_a_time_and_a_gpu_all(
    frames: int, tokens: int, attended: list[int], mixed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shown by fake tensors, which need no GPU; torch's attention is left out, since it does need
    one."""
    found: dict[str, list[int]] = {"attn": [], "mlp": []}

    def attend(self: Attention, x: Tensor, rope: object, **around: object) -> Tensor:
        found["attn"].append(len(x))
        return x

    monkeypatch.setattr(Attention, "forward", attend)
    block = _block()
    block.mlp.register_forward_hook(lambda mlp, given, output: found["mlp"].append(len(given[0])))
    for device in ("cpu", "cuda"):
        with FakeTensorMode(), torch.inference_mode():
            parameters = {
                name: torch.empty(value.shape, device=device)
                for name, value in block.named_parameters()
            }
            x = torch.empty(frames, tokens, DIM, device=device)
            assert torch.func.functional_call(block, parameters, (x,)).shape == x.shape
    assert found == {"attn": [*attended, frames], "mlp": [*mixed, frames * tokens]}


def test_a_quantised_block_keeps_its_stream_in_float32_under_autocast() -> None:
    torch.manual_seed(0)
    block = _quantised(Block(DIM, HEADS, qk_norm=True).eval().requires_grad_(False), "w4a4")
    x = torch.randn(1, 9, DIM)
    with torch.inference_mode():
        exact = block(x)
        with torch.autocast("cpu", torch.bfloat16):
            y = block(x)
    assert y.dtype == torch.float32
    torch.testing.assert_close(y, exact, atol=0.05, rtol=0)
