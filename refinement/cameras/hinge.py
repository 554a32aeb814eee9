"""Whether two groups of pictures are held together by matches that the cameras don't satisfy: then
each may be right in itself and stand wrong to the other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LEAST_SHARE = 0.5
"""Of the matches between two groups of pictures, those that the cameras have to satisfy. Of sets of
4 to 8 pictures of the fox, the castle and the courtyard, right cameras had 0.65 to 1 across their
weakest cut, and groups that were joined wrongly 0.02 and 0.18."""


def loose_group(
    supported: NDArray[np.int64], everything: NDArray[np.int64], kept: NDArray[np.bool_]
) -> NDArray[np.bool_] | None:
    """The smaller one `[S]` of two groups of two or more `kept` pictures `[S]` that too few of the
    matches between them hold together; None if there are none.

    `supported` and `everything` are counts of matches between every two pictures `[S, S]`. The two
    groups are those with the fewest supported matches between them.
    """
    pictures = np.flatnonzero(kept)
    if len(pictures) < 4:
        return None
    among = np.ix_(pictures, pictures)
    least, first = weakest_cut(supported[among].astype(np.float64))
    if min(first.sum(), (~first).sum()) < 2:
        return None
    between = everything[among][np.ix_(first, ~first)].sum()
    if least >= LEAST_SHARE * between:
        return None
    groups = [pictures[first], pictures[~first]]
    smaller = min(groups, key=lambda group: (len(group), supported[np.ix_(group, group)].sum()))
    return np.isin(np.arange(len(kept)), smaller)


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
