from __future__ import annotations

import pytest
import torch

from evaluation.raised import matching, raised
from kernels import QuantizedLinear
from model import VGGT
from model.families.vggt.presets import PRESETS
from quantization.convert import quantize_network
from quantization.recipe import Recipe


@pytest.fixture(scope="module")
def networks() -> tuple[VGGT, VGGT]:
    """The same weights with 4-bit and with 8-bit activations; the image encoder has 8 bits in
    both."""
    torch.manual_seed(0)
    net = VGGT(PRESETS["demo"])
    narrow, wide = (
        quantize_network(net, Recipe().with_parts(aggregator=scheme)) for scheme in ("w4a4", "w4a8")
    )
    assert isinstance(narrow, VGGT)
    assert isinstance(wide, VGGT)
    return narrow, wide


def _bits(net: VGGT) -> dict[str, int]:
    layers = {n: m for n, m in net.named_modules() if isinstance(m, QuantizedLinear)}
    return {name: layer.format.activation_bits for name, layer in layers.items()}


def test_only_the_layers_that_fit_are_raised_and_only_within_the_context(
    networks: tuple[VGGT, VGGT],
) -> None:
    narrow, wide = networks
    before = _bits(narrow)
    with raised(narrow, wide, "*.global_blocks.*.attn.qkv"):
        now = _bits(narrow)
    changed = {name for name in before if now[name] != before[name]}
    depth = PRESETS["demo"].depth
    assert changed == {f"aggregator.global_blocks.{i}.attn.qkv" for i in range(depth)}
    assert _bits(narrow) == before


def test_raising_every_layer_gives_the_answer_of_the_artifact_with_8_bit_activations(
    networks: tuple[VGGT, VGGT],
) -> None:
    narrow, wide = networks
    images = torch.rand(1, 2, 3, 24, 24, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode(), raised(narrow, wide, "*"):
        found = narrow(images).pose_enc
    with torch.inference_mode():
        assert torch.equal(found, wide(images).pose_enc)
        assert not torch.equal(found, narrow(images).pose_enc)


def test_a_pattern_that_no_layer_fits_is_refused_with_the_names_that_there_are(
    networks: tuple[VGGT, VGGT],
) -> None:
    narrow, wide = networks
    for pattern in ("*.attn.out", "*.patch_embed.*"):
        with pytest.raises(ValueError, match=r"aggregator\.frame_blocks\.0\.attn\.qkv to"):
            matching(narrow, wide, pattern)
