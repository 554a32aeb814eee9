from __future__ import annotations

from itertools import combinations

import numpy as np

from refinement.cameras.hinge import weakest_cut


def test_the_cut_is_the_least_of_all_that_there_are() -> None:
    random = np.random.default_rng(0)
    for count in (2, 3, 5, 7):
        weights = np.triu(random.integers(0, 50, (count, count)), 1).astype(float)
        weights += weights.T
        cuts = [
            weights[np.ix_(group, [i for i in range(count) if i not in group])].sum()
            for size in range(1, count)
            for group in combinations(range(count), size)
        ]
        least, group = weakest_cut(weights)
        assert least == min(cuts)
        assert weights[np.ix_(group, ~group)].sum() == least


def test_two_groups_with_one_bridge_are_told_apart() -> None:
    weights = np.zeros((6, 6))
    weights[:3, :3] = weights[3:, 3:] = 100
    weights[1, 4] = weights[4, 1] = 7
    least, group = weakest_cut(weights)
    assert least == 7
    assert sorted(map(tuple, (np.flatnonzero(group), np.flatnonzero(~group)))) == [
        (0, 1, 2),
        (3, 4, 5),
    ]
