"""Places that a chunked scene comes back to: the passes that look at them, and what the result says
of them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch

from model.scene.chunking import Place, place, take
from model.scene.loops import Loop, Verdict, close_loops, find_loops, measure
from model.scene.preprocess import PreprocessedImages
from service.errors import NonFiniteOutput, OutOfMemory
from service.inference.engine import Engine, Observer, Pass

_log = logging.getLogger("service")


@dataclass(frozen=True)
class Revisits:
    """Where the chunks lie once loops are closed, the extra passes that took, and what was
    found."""

    places: list[Place]
    passes: list[Pass]
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
    engine: Engine,
    batch: PreprocessedImages,
    chunks: Sequence[range],
    done: Sequence[Pass],
    observer: Callable[[int], Observer],
    attention_keys: int | None = None,
) -> Revisits:
    """Look for loops between the passes `done` over `chunks` of `batch`, with one more pass for
    each candidate.

    Those of `done` hold descriptors. None of the others reads more pictures than a chunk has, and
    one that fails costs its loop, not the scene. `observer(i)` watches pass number i; raises what
    it raises.
    """
    scenes = [each.reconstruction for each in done]
    places = place(scenes, chunks)
    passes: list[Pass] = []
    loops: list[Loop] = []
    for number, candidate in enumerate(find_loops(_descriptors(done, chunks), chunks)):
        try:
            extra = engine.infer(
                take(batch, candidate.frames), observer(number), None, False, attention_keys
            )
        except (OutOfMemory, NonFiniteOutput) as error:
            _log.warning("pictures %d and %d were not compared: %s", *candidate.pair, error)
            continue
        passes.append(extra)
        loops.append(measure(candidate, extra.reconstruction, scenes, chunks))
    closed, verdicts = close_loops(places, loops, scenes)
    return Revisits(closed, passes, verdicts)


def _descriptors(done: Sequence[Pass], chunks: Sequence[range]) -> torch.Tensor:
    """Those of all frames `[S, D]`; a shared frame has the earlier chunk's."""
    shared = [0, *(before.stop - chunk.start for before, chunk in pairwise(chunks))]
    found = []
    for each, count in zip(done, shared, strict=True):
        assert each.descriptors is not None
        found.append(each.descriptors[count:])
    return torch.cat(found)
