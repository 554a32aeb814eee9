"""How many bits the activations of a 4-bit network have while it is served."""

from __future__ import annotations

from pathlib import Path

from kernels.widths import FREE, wide_cost
from model.files.artifact import layer_shapes
from service.result.document import ActivationsDocument


def chosen_activations(artifact: Path, device: str, asked: str) -> ActivationsDocument:
    """Whether 4-bit activations are to have 8 bits, as it was `asked` for: "4", "8", or "auto",
    which takes 8 where the layers are measured to cost next to nothing more by it."""
    cost = wide_cost(layer_shapes(artifact), device) if asked == "auto" else None
    wide = asked == "8" or (cost is not None and cost <= FREE)
    return ActivationsDocument(asked=asked, wide=wide, cost=cost)
