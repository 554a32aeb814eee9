"""Whether two groups of pictures are held together by few matches only: then each may be right in
itself and still stand wrong to the other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from refinement.cameras.evidence import Matches
from refinement.cameras.solution import Solution
from refinement.result import Reason

FEW_MATCHES = 100


def weak_connection(matches: Matches, solution: Solution) -> tuple[Reason, ...]:
    """A note if fewer supported matches than that hold two groups of two or more refined pictures
    together."""
    kept = np.flatnonzero(solution.kept)
    if len(kept) < 4:
        return ()
    supported = matches.count(matches.supported(solution.cameras), len(solution.kept))
    least, group = weakest_cut(supported[np.ix_(kept, kept)].astype(np.float64))
    smaller = min((kept[group], kept[~group]), key=len)
    if least >= FEW_MATCHES or len(smaller) < 2:
        return ()
    pictures = ", ".join(str(index) for index in smaller)
    return (
        Reason(
            "weak-connection",
            f"Only {least:.0f} matches hold the pictures {pictures} (counted from 0) to the "
            "others: each group may be right in itself and wrong to the other. A picture that "
            "shows some of both helps.",
        ),
    )


def weakest_cut(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.bool_]]:
    """The least total weight between two groups of N nodes, and one of the groups `[N]`.

    `weights` `[N, N]`, N >= 2, is symmetric and not negative. Stoer and Wagner, "A simple min-cut
    algorithm", 1997.
    """
    weights = weights.astype(np.float64)
    np.fill_diagonal(weights, 0)
    members = np.eye(len(weights), dtype=bool)
    left = list(range(len(weights)))
    least, group = np.inf, members[0]
    while len(left) > 1:
        # add nodes by how tightly they hold to those added before; the last one makes a cut
        order, hold = [left[0]], weights[left[0]].copy()
        rest = left[1:]
        while rest:
            tightest = rest[int(np.argmax(hold[rest]))]
            rest.remove(tightest)
            order.append(tightest)
            hold += weights[tightest]
        before, last = order[-2:]
        cut = float(weights[last, left].sum())
        if cut < least:
            least, group = cut, members[last].copy()
        weights[before] += weights[last]
        weights[:, before] += weights[:, last]
        weights[before, before] = 0
        members[before] |= members[last]
        left.remove(last)
    return least, group
