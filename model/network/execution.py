"""How a network runs on a device: an artifact's reduced arithmetic is a permission, and what is
slower is not used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import AbstractContextManager
from functools import partial

import torch
from torch import nn

from kernels import DequantizedLinear, QuantizedLinear, computes_bfloat16, kernel_path

_TOKENS = 8192  # for which a layer's time is measured: those of six pictures of 518 x 518 pixels


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


@torch.inference_mode()
def use_faster_floats(net: nn.Module, device: str | torch.device, room: int | None) -> None:
    """Puts weights of bfloat16 where the layers of `net` are slower on codes by the measured times
    of `device`, as long as they take no more than `room` bytes (None: any number).

    A layer is measured alone, without LayerNorm, GELU and residual, which cost it less than they
    cost floats.
    """
    device = torch.device(device)
    times = kernel_path(device).times
    if times is None or not computes_bfloat16(device):
        return
    alike: dict[str, list[tuple[nn.Module, str, QuantizedLinear]]] = {}
    for parent in net.modules():
        for name, layer in parent.named_children():
            if isinstance(layer, QuantizedLinear):
                alike.setdefault(layer.extra_repr(), []).append((parent, name, layer))
    for what, places in alike.items():
        _, _, layer = places[0]
        bytes_of_all = len(places) * 2 * layer.in_features * layer.out_features
        if room is not None and bytes_of_all > room:
            continue
        x = torch.randn(_TOKENS, layer.in_features, dtype=torch.bfloat16, device=device)
        floats = DequantizedLinear(layer)
        ways = {way.arithmetic: partial(way, x) for way in (layer, floats)}
        if times.choose(f"a layer of {what}", ways) == floats.arithmetic:
            room = None if room is None else room - bytes_of_all
            for parent, name, layer in places:
                setattr(parent, name, DequantizedLinear(layer))


def in_floats(net: nn.Module) -> tuple[str, ...]:
    """Which layers `use_faster_floats` has changed: one sentence for each kind."""
    kinds = Counter(
        f"{layer.format.name} layers of {layer.in_features} features run in {layer.arithmetic}"
        for layer in net.modules()
        if isinstance(layer, DequantizedLinear)
    )
    return tuple(f"{count} {kind}, which is faster here" for kind, count in kinds.items())


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


def fallbacks(
    net: nn.Module | None, permitted: Mapping[str, str], device: str | torch.device
) -> tuple[str, ...]:
    """What of an artifact, and of its network if that is loaded, runs in another way on `device`
    than it permits, and why."""
    loaded = () if net is None else (*in_plain_torch(net, device), *in_floats(net))
    return (*unused(permitted, device), *loaded)
