"""Places that a chunked scene comes back to: the passes that look at them, and what the result says
of them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from model.scene.chunking import Place
from model.scene.loops import Loop, Verdict, close_loops, find_loops, measure
from model.scene.reconstruction import Reconstruction
from service.errors import NonFiniteOutput, OutOfMemory
from service.inference.network_pass import Pass

Look = Callable[[int, Sequence[int]], Pass]
"""Runs pass number i over some frames of the scene."""

_log = logging.getLogger("service")


@dataclass(frozen=True)
class Revisits:
    """Where the chunks lie once loops are closed, and what was found."""

    places: list[Place]
    verdicts: list[Verdict]

    def document(self) -> list[dict[str, Any]]:
        """Plain data for JSON."""
        return [
            {
                "pictures": list(verdict.loop.candidate.pair),
                "residual": round(max(verdict.loop.residuals), 4),
                "drift": round(verdict.drift, 2),
                "closed": verdict.closed,
            }
            for verdict in self.verdicts
        ]


def revisit(
    look: Look,
    chunks: Sequence[range],
    parts: Sequence[Reconstruction],
    places: Sequence[Place],
    descriptors: torch.Tensor,
    note: Callable[[Pass], None],
) -> Revisits:
    """Look for loops between the `parts` of a scene, one for each of `chunks`, which lie at
    `places`, with one more pass for each candidate.

    `descriptors` [S, D] are those of all frames. No pass reads more pictures than a chunk has, and
    one that fails costs its loop, not the scene. `note` is given each pass; raises what it and
    `look` raise.
    """
    loops: list[Loop] = []
    for number, candidate in enumerate(find_loops(descriptors, chunks)):
        try:
            extra = look(number, candidate.frames)
        except (OutOfMemory, NonFiniteOutput) as error:
            _log.warning("pictures %d and %d were not compared: %s", *candidate.pair, error)
            continue
        loops.append(measure(candidate, extra.reconstruction, parts, chunks))
        note(extra)
    closed, verdicts = close_loops(places, loops, parts)
    return Revisits(closed, verdicts)
