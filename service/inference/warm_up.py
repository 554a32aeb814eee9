"""The first passes of a loaded network, from which the service learns what requests will cost."""

from __future__ import annotations

from collections.abc import Callable

from service.inference.cost import Cost
from service.inference.plan import Planner

_LEARNT_FROM = 6  # frames: with fewer, what a pass holds for a few frames at a time hides the rest
_FURTHER = (_LEARNT_FROM, 24, 96)
_LONG_SECONDS = 1.0  # a longer pass is neither measured twice nor followed by one of more frames


def warm_up(
    measure: Callable[[int, int], Cost], planner: Planner, side: int, patch_size: int
) -> None:
    """Measure passes of one to six frames, of more where that takes no second, and tell the
    planner's model.

    `measure` runs a pass over so many pictures of so many pixels a side; `side` is the longest that
    the network takes.

    Each is measured once more when the longest has run: what that leaves with the allocator counts
    in every later pass, and other programs only make a pass slower.
    """
    model = planner.model
    half = max(1, side // patch_size // 2) * patch_size
    measure(1, half)  # the first pass pays for everything that is made once
    passes = [(1, half), (1, side), (2, side), *((frames, side) for frames in _FURTHER)]
    costs: dict[tuple[int, int], Cost] = {}
    for frames, size in passes:
        expected = model.predict(frames, size, size)
        if frames >= _LEARNT_FROM and not _worthwhile(frames, expected, planner.budget):
            break
        costs[frames, size] = measure(frames, size)
        model.calibrate(frames, size, size, costs[frames, size])
    for (frames, size), first in costs.items():
        if first.seconds <= _LONG_SECONDS:
            again = measure(frames, size)
            cost = Cost(again.bytes, min(first.seconds, again.seconds))
            model.calibrate(frames, size, size, cost)


def _worthwhile(frames: int, expected: Cost, budget: int | None) -> bool:
    fits = budget is None or expected.bytes <= budget
    return fits and (frames == _LEARNT_FROM or expected.seconds <= _LONG_SECONDS)
