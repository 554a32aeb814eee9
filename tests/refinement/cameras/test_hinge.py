from __future__ import annotations

from itertools import combinations

import numpy as np

from refinement.cameras.hinge import loose_group, weakest_cut


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


def two_groups(between: int) -> np.ndarray:
    """Counts of matches of pictures 0 to 3 and 4 to 6, `between` the groups."""
    counts = np.zeros((7, 7), dtype=np.int64)
    counts[:4, :4] = counts[4:, 4:] = 100
    counts[3, 4] = counts[4, 3] = between
    np.fill_diagonal(counts, 0)
    return counts


def test_a_group_hangs_loose_where_most_of_the_matches_to_it_are_not_satisfied() -> None:
    everyone = np.ones(7, dtype=bool)
    group = loose_group(two_groups(20), two_groups(80), everyone)
    assert group is not None
    assert np.flatnonzero(group).tolist() == [4, 5, 6]
    assert loose_group(two_groups(60), two_groups(80), everyone) is None


def test_few_matches_are_enough_where_all_are_satisfied() -> None:
    assert loose_group(two_groups(25), two_groups(25), np.ones(7, dtype=bool)) is None


def test_a_single_picture_is_no_group() -> None:
    kept = np.array([1, 1, 1, 1, 1, 0, 0], dtype=bool)
    assert loose_group(two_groups(20), two_groups(80), kept) is None
