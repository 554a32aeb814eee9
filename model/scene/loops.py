"""Long scenes that come back to a place: where they do, whether it is true, and the drift that it
takes back.

As in VGGT-Long (Deng et al., 2025) and DA3-Streaming (Lin et al., "Depth Anything 3", 2025): frames
of distant chunks that look alike are run once more in one pass, which says how the two chunks lie
to each other, and the difference to what the chain of chunks says is spread over the chain.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import torch
import torch.nn.functional as F
from torch import Tensor

from model.scene.chunking import Place, Surface, fit
from model.scene.pose_graph import Edge, optimise
from model.scene.reconstruction import Reconstruction
from model.scene.sim3 import from_matrix, logarithm, to_matrix

_CHUNKS_PER_LOOP = 3
# what separates true from false on synthetic rooms; residuals of views more than 40 degrees apart
# begin at 0.107
_MOST_RESIDUAL = 0.12
_MOST_RESIDUAL_OF_USUAL = 2.0  # times the median of the chain's joints
_MOST_DRIFT = 10.0  # deviations
_LEAST_RESIDUAL = 1e-3


@dataclass(frozen=True)
class Candidate:
    """Frames `pair` of the chunks number `first` and `second` look alike; `near` are frames of
    either around it."""

    first: int
    second: int
    pair: tuple[int, int]
    near: tuple[range, range]

    @property
    def frames(self) -> list[int]:
        """What one pass over both ends reads."""
        return [*self.near[0], *self.near[1]]


@dataclass(frozen=True)
class Loop:
    """What a pass over both ends of a candidate says.

    `measured` `[4, 4]` takes points of the second chunk's world into the first one's; `residuals`
    say how well the pass agrees with either chunk, as those of `Place` do.
    """

    candidate: Candidate
    measured: Tensor
    residuals: tuple[float, float]


@dataclass(frozen=True)
class Verdict:
    """Whether a loop was closed; `drift` is what the chain would give way by, in deviations that
    its joints explain."""

    loop: Loop
    drift: float
    closed: bool


def most_loops(chunks: int) -> int:
    """How many candidates a scene of so many chunks has at most: a pass is spent on each."""
    return chunks // _CHUNKS_PER_LOOP


def find_loops(descriptors: Tensor, chunks: Sequence[range]) -> list[Candidate]:
    """Candidates, the likest first, at most `most_loops`, from descriptors `[S, D]` of all frames.

    Two frames are a candidate if they are as alike as frames a quarter of a chunk apart usually
    are, and one between them looked as different from the first as frames a chunk apart do: the
    camera went away and came back.
    """
    most = most_loops(len(chunks))
    if not most:
        return []
    centred = F.normalize(descriptors - descriptors.mean(0), dim=-1)
    likeness = centred @ centred.T
    size = len(chunks[0])
    near, far = likeness.diagonal(max(1, size // 4)).median(), likeness.diagonal(size).median()
    # [i, j]: it was away from i before j
    gone = (likeness <= far).triu().long().cummax(dim=-1).values.bool()
    likeness = likeness.masked_fill(~gone | (likeness < near), -1.0)

    found: list[tuple[float, Candidate]] = []
    for first, a in enumerate(chunks):
        for second in range(first + 2, len(chunks)):
            b = chunks[second]
            block = likeness[a.start : a.stop, b.start : b.stop]
            best = int(block.argmax())
            pair = (a.start + best // len(b), b.start + best % len(b))
            ends = (_around(a, pair[0], size // 2), _around(b, pair[1], size // 2))
            if block.max() > 0 and b.start >= a.stop:
                found.append((float(block.max()), Candidate(first, second, pair, ends)))
    kept: list[Candidate] = []
    for _, candidate in sorted(found, key=lambda item: item[0], reverse=True):
        beside = any(
            abs(candidate.first - other.first) <= 1 and abs(candidate.second - other.second) <= 1
            for other in kept
        )
        if not beside and len(kept) < most:
            kept.append(candidate)
    return kept


def measure(
    candidate: Candidate,
    seen: Reconstruction,
    parts: Sequence[Reconstruction],
    chunks: Sequence[range],
) -> Loop:
    """What the pass `seen` over `candidate.frames` says of its two chunks."""
    ends = []
    at = 0
    for number, near in zip((candidate.first, candidate.second), candidate.near, strict=True):
        start = near.start - chunks[number].start
        target = Surface.of(parts[number], slice(start, start + len(near)))
        ends.append(fit(seen, slice(at, at + len(near)), target))
        at += len(near)
    first, second = (to_matrix(end.similarity) for end in ends)
    return Loop(candidate, first @ torch.linalg.inv(second), (ends[0].residual, ends[1].residual))


def close_loops(
    places: Sequence[Place], loops: Sequence[Loop], parts: Sequence[Reconstruction]
) -> tuple[list[Place], list[Verdict]]:
    """`places` of `chunking.place` with the drift taken back that true loops show; without one they
    stay as they are.

    A loop is false if its pass agrees badly with the two chunks, also beside what is usual between
    neighbours, or if the chain would have to give way by more than the disagreement at its joints
    explains.
    """
    if not loops:
        return list(places), []
    units = [
        torch.diag(torch.tensor([unit, unit, unit, 1.0], dtype=torch.float64))
        for unit in map(_depth, parts)
    ]
    nodes = torch.stack(
        [to_matrix(at.similarity) @ unit for at, unit in zip(places, units, strict=True)]
    )
    deviations = [max(at.residual, _LEAST_RESIDUAL) for at in places]
    chain = [
        Edge(k - 1, k, torch.linalg.solve(nodes[k - 1], nodes[k]), deviations[k])
        for k in range(1, len(places))
    ]
    most = min(_MOST_RESIDUAL, _MOST_RESIDUAL_OF_USUAL * median(deviations[1:]))
    edges, verdicts = [], []
    for loop in loops:
        first, second = loop.candidate.first, loop.candidate.second
        measured = torch.linalg.solve(units[first], loop.measured @ units[second])
        edge = Edge(
            first, second, measured, max(math.hypot(*loop.residuals), _LEAST_RESIDUAL), robust=True
        )
        error = float(
            logarithm(
                torch.linalg.solve(measured, torch.linalg.solve(nodes[first], nodes[second]))
            ).norm()
        )
        drift = error / math.hypot(edge.deviation, *deviations[first + 1 : second + 1])
        closed = max(loop.residuals) <= most and drift <= _MOST_DRIFT
        verdicts.append(Verdict(loop, drift, closed))
        edges += [edge] if closed else []
    if not edges:
        return list(places), verdicts
    settled = optimise(nodes, [*chain, *edges])
    moved = [
        Place(from_matrix(node @ torch.linalg.inv(unit)), at.residual)
        for node, unit, at in zip(settled, units, places, strict=True)
    ]
    return [places[0], *moved[1:]], verdicts


def _around(chunk: range, frame: int, count: int) -> range:
    """`count` frames of `chunk`, or all if it has fewer, with `frame` as near to their middle as
    may be."""
    count = min(max(count, 1), len(chunk))
    start = min(max(frame - count // 2, chunk.start), chunk.stop - count)
    return range(start, start + count)


def _depth(part: Reconstruction) -> float:
    return float(part.depth[part.mask].median())
