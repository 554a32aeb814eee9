"""Which view of a scene becomes the reference, whose camera the world stands in, about.

It is chosen by what the class tokens say of the views before the first block that attends over all
of them.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

STRATEGIES = ("saddle_balanced", "saddle_sim_range", "first", "middle")
LEAST_VIEWS = 3
"""With fewer views the first one is the reference."""


def choose(class_tokens: Tensor, strategy: str = "saddle_balanced") -> Tensor:
    """Index `[B]` of the reference among class tokens `[B, S, C]` of S views, at least two.

    "saddle_balanced" takes the view that is most in the middle by three measures: similarity to the
    others, length, and variance of its token. "saddle_sim_range" takes the one whose similarities
    to the others spread most.
    """
    batch, views, _ = class_tokens.shape
    if strategy in ("first", "middle"):
        index = 0 if strategy == "first" else views // 2
        return torch.full((batch,), index, device=class_tokens.device)
    tokens = class_tokens.float()
    directions = F.normalize(tokens, dim=-1)
    others = directions @ directions.mT * (1 - torch.eye(views, device=tokens.device))
    if strategy == "saddle_sim_range":
        return (others.amax(-1) - others.amin(-1)).argmax(-1)
    measures = (others.sum(-1) / (views - 1), tokens.norm(dim=-1), directions.var(dim=-1))
    distance = sum((_spread(measure) - 0.5).abs() for measure in measures)
    assert isinstance(distance, Tensor)
    return distance.argmin(-1)


def order_with_first(reference: Tensor, views: int) -> Tensor:
    """Indices `[B, S]` of the views with `reference` `[B]` moved to the front and the others in
    their order."""
    others = torch.arange(views, device=reference.device).expand(len(reference), -1)
    moved = torch.where(others == reference[:, None], -1, others)
    return moved.sort(dim=-1).indices


def arranged(values: Tensor, order: Tensor) -> Tensor:
    """`values` `[B, S, ...]` with the views in the order of `order` `[B, S]`."""
    return values[torch.arange(len(order), device=order.device)[:, None], order]


def _spread(measure: Tensor) -> Tensor:
    """`[B, S]` brought to [0, 1] over the views."""
    low, high = measure.amin(-1, keepdim=True), measure.amax(-1, keepdim=True)
    return (measure - low) / (high - low + 1e-8)
