"""How a network runs on a device: an artifact's reduced arithmetic is a permission, and what is
slower is not used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import AbstractContextManager

import torch
from torch import nn

from kernels import QuantizedLinear, computes_bfloat16, kernel_path


def autocast(device: str | torch.device) -> AbstractContextManager[None]:
    """What a whole network runs under: bfloat16 for what is not quantised on a GPU that has it,
    else float32.

    The camera head runs in float32 all the same, and so do the dense heads unless the artifact
    permits less.
    """
    device = torch.device(device)
    return torch.autocast(
        device.type, torch.bfloat16, enabled=device.type == "cuda" and computes_bfloat16(device)
    )


def unused(permitted: Mapping[str, str], device: str | torch.device) -> tuple[str, ...]:
    """What a manifest's "execution" permits and `device` does not use, for it would be slower: one
    sentence each."""
    device = torch.device(device)
    sentences = []
    if (
        permitted.get("attention") == "int8"
        and "int8_attention" not in kernel_path(device).operators
    ):
        sentences.append(
            f"attention runs in float: there is no 8-bit kernel for it on {device.type}"
        )
    if permitted.get("dense_heads") == "bfloat16" and not computes_bfloat16(device):
        sentences.append(f"dense heads run in float32: this {device.type} is slower in bfloat16")
    return tuple(sentences)


def in_plain_torch(net: nn.Module, device: str | torch.device) -> tuple[str, ...]:
    """Which quantised layers have no native kernel on `device`, though others have: one sentence
    for each kind."""
    path = kernel_path(device)
    if not path.native:  # the path itself says so
        return ()
    layers = [module for module in net.modules() if isinstance(module, QuantizedLinear)]
    kinds = Counter(
        f"{layer.format.name} layers of {layer.in_features} features"
        for layer in layers
        if not layer.runs_natively(path)
    )
    return tuple(f"{count} {kind} run in plain torch" for kind, count in kinds.items())
