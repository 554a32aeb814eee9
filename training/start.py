"""The weights that a training run starts from, where they are not random."""

from __future__ import annotations

import json
from typing import Any

from model import VGGT
from model.files.checkpoint import load_checkpoint, resolve_checkpoint
from model.files.provenance import digest
from training.errors import TrainingError


def take_weights(net: VGGT, checkpoint: str) -> None:
    """Raises TrainingError if the checkpoint has another shape than `net`."""
    source = load_checkpoint(checkpoint)
    if source.config != net.config:
        raise TrainingError(
            f"the checkpoint {checkpoint} has another shape than the preset that is trained"
        )
    net.load_state_dict(source.state_dict())


def origin(checkpoint: str) -> dict[str, Any]:
    """How the weights that a run starts from were made: their hash, and their own record if one
    lies beside them."""
    weights, _ = resolve_checkpoint(checkpoint)
    record = weights.parent / "training.json"
    return {
        "checkpoint": checkpoint,
        "sha256": digest(weights),
        "training": json.loads(record.read_text()) if record.is_file() else None,
    }
