"""Which solution is taken, and which of its pictures: by what the matches support.

The figures are those of a prototype on 2,317 pictures of photographs and synthetic rooms
(docs/accuracy.md): below a share of 0.6 more than half of the cameras were more than 5 degrees
wrong, above 0.8 some 2 %; below 20 observations 91 %.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from refinement.cameras.evidence import Matches
from refinement.cameras.hinge import loose_group
from refinement.cameras.solution import Solution

LEAST_OBSERVATIONS = LEAST_SUPPORTED = 20
LEAST_SHARE, GOOD_SHARE = 0.6, 0.8
CERTAIN_SHARE = 0.95
"""Of all matches, those after which no other solution is looked for. Four pictures of a papered
wall were joined wrongly at 0.90, and rightly at 0.95 by the next method."""
LEAST_ANCHOR, ANCHOR_SHARE = 30, 0.8
"""Matches of one pair that keep a picture whose other pairs are not supported: far pictures of a
wall or of repeated windows have many verified matches that are wrong."""
LEAST_TOTAL_SHARE = 0.3
"""Of all matches, those that a solution has to satisfy. Right ones of half of the pictures had 0.46
and more; of a camera that only turned two of four pictures had 0.12."""
FIELD_OF_VIEW_DEGREES = (8, 150)
MOST_DISTORTION = 0.6
LEAST_RAY_ANGLE = 3  # degrees
PLANAR_PAIRS = 0.9
"""From this share of planar pairs on the set may be one of a camera that only turned."""
LEAST_PARALLAX, LEAST_PARALLAX_IF_PLANAR = 0.5, 2.0
"""Degrees that no turning of the camera explains, with any focal length, for the middle picture.
Cameras that hardly moved had 0.2 to 1.3, and planar pairs from 92 % on (8 sets of rooms); rooms 2.0
to 6.7 and at most 42 % (8 sets), photographs of 4 or 8 pictures 1.0 to 17 and at most 96 %, of the
latter kind at least 2.8 (32 sets of 4 scenes)."""
_FOCAL_FACTORS = np.geomspace(0.5, 2, 9)
LEAST_GAIN = 0.02


@dataclass(frozen=True)
class Judged:
    """A solution without the pictures that its matches don't support."""

    solution: Solution
    share: NDArray[np.float64]
    """Of the matches between a picture and other kept ones, those supported `[S]`; NaN without."""
    total_share: float
    """Supported matches between kept pictures, of all matches."""
    loose: tuple[int, ...] = ()
    """Pictures that were dropped as a group, since matches don't hold it to the others."""

    @property
    def score(self) -> float:
        return float(self.solution.kept.sum()) + 4 * self.total_share

    @property
    def usable(self) -> bool:
        """Half of the pictures, and enough of the matches."""
        kept = self.solution.kept
        enough = kept.sum() >= max(2, len(kept) / 2)
        return bool(enough and self.total_share >= LEAST_TOTAL_SHARE)

    @property
    def settled(self) -> bool:
        """All pictures are well supported."""
        return bool(self.solution.kept.all() and (self.share >= GOOD_SHARE).all())

    @property
    def certain(self) -> bool:
        """Nothing is left to improve."""
        return self.settled and self.total_share >= CERTAIN_SHARE


def judge(solution: Solution, matches: Matches) -> Judged:
    """Drops the worst picture while one is not supported, and groups that hang loose."""
    count = len(solution.kept)
    supported = matches.count(matches.supported(solution.cameras), count)
    everything = matches.count(np.ones(len(matches), dtype=bool), count)
    possible = _possible_lens(solution)
    anchored = (supported >= LEAST_ANCHOR) & (supported >= ANCHOR_SHARE * everything)
    loose: list[int] = []
    while True:
        kept = solution.kept
        among: NDArray[np.bool_] = np.outer(kept, kept)
        good, total = (supported * among).sum(1), (everything * among).sum(1)
        share = np.divide(good, total, out=np.full(count, np.nan), where=total > 0)
        bad = kept & (
            (solution.tracks.observations(count) < LEAST_OBSERVATIONS)
            | (good < LEAST_SUPPORTED)
            | ~((share >= LEAST_SHARE) | (anchored & among).any(1))
            | ~possible
        )
        if bad.any():
            solution = solution.without(int(np.argmin(np.where(bad, np.nan_to_num(share), np.inf))))
            continue
        group = loose_group(supported, everything, kept)
        if group is None:
            break
        for picture in np.flatnonzero(group).tolist():
            solution = solution.without(picture)
            loose.append(picture)
    satisfied = float((supported * among).sum() / 2 / max(1, len(matches)))
    return Judged(solution, share, satisfied, tuple(loose))


def shows_parallax(judged: Judged, matches: Matches) -> bool:
    """Whether the camera moved enough for its poses to mean anything.

    Without parallax a wrong focal length and wrong poses satisfy every match. Two pictures taken
    side by side in a larger set do no harm, so it is the middle picture that counts.
    """
    solution = judged.solution
    kept = solution.kept
    if not kept.any():
        return False
    if np.median(solution.tracks.ray_angles(solution.cameras)[kept]) < LEAST_RAY_ANGLE:
        return False
    flat = matches.planar.mean() >= PLANAR_PAIRS
    return _parallax(matches, solution) >= (LEAST_PARALLAX_IF_PLANAR if flat else LEAST_PARALLAX)


def _parallax(matches: Matches, solution: Solution) -> float:
    """The middle picture's largest parallax to another one, degrees, with the focal length that
    leaves least of it."""
    cameras, counts = solution.cameras, np.bincount(matches.pair, minlength=len(matches.pictures))
    found = []
    for factor in _FOCAL_FACTORS:
        zoomed = replace(cameras, focal=factor * cameras.focal)
        # in degrees of the solution's own lens, since a longer one makes every angle smaller
        angles = np.where(counts >= LEAST_SUPPORTED, factor * matches.parallax(zoomed), 0)
        largest = np.zeros(len(solution.kept))
        for side in range(2):
            np.maximum.at(largest, matches.pictures[:, side], angles)
        found.append(float(np.median(largest[solution.kept])))
    return min(found)


def _possible_lens(solution: Solution) -> NDArray[np.bool_]:
    """Whose lens is one that exists `[S]`."""
    cameras = solution.cameras
    view = 2 * np.degrees(np.arctan(cameras.longer_side / 2 / cameras.focal))
    narrow, wide = FIELD_OF_VIEW_DEGREES
    return (view >= narrow) & (view <= wide) & (np.abs(cameras.distortion) <= MOST_DISTORTION)
