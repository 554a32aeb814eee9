"""What is done only for a network on a GPU, which has memory for it and waits for its host."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from model.files.storage import multiply_out
from model.network.execution import autocast, use_faster_floats
from model.network.network import Network
from service.inference.memory import free_budget

_SHARE = 8  # one part in so many of what is free, for each kind of weights as floats


def prepare(net: Network, device: torch.device, side: int) -> None:
    """Makes once what every pass would make: floats of layers that are slower on codes, products of
    weights that lie in 8 bits. Runs a pass over one picture of `side` pixels a side."""
    if device.type != "cuda":
        return
    use_faster_floats(net, device, (free_budget(str(device)) or 0) // _SHARE)
    images = torch.full((1, 3, side, side), 0.5, device=device)
    with torch.inference_mode(), autocast(device):
        multiply_out(net, (free_budget(str(device)) or 0) // _SHARE, partial(net, images))


def sent(images: Tensor, device: torch.device) -> Tensor:
    """`images` on the device; to a GPU from pinned memory, which it reads by itself."""
    if device.type == "cuda":
        images = images.pin_memory()
    return images.to(device, non_blocking=True)
