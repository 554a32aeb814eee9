"""More matches for pictures that were taken from far apart: key points of affine shape beside the
first ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pycolmap

from refinement.cameras import pairs
from refinement.cameras.features import Workspace, extract


def look_again(
    workspace: Workspace,
    affine: Workspace,
    chosen: Sequence[tuple[int, int]],
    threads: int,
    report: Callable[[float], None],
) -> None:
    """Adds affine key points and their matches to a database with matches of the `chosen` pairs,
    and verifies all of them anew. `affine` has the same pictures and nothing else yet.

    Both kinds are matched among themselves only, and each kind of a pair counts only if it counts
    on its own.
    """
    extract(affine, threads, lambda share: report(share / 2), affine=True)
    pairs.match(affine, chosen, threads, lambda share: report((share + 1) / 2))
    with (
        pycolmap.Database.open(workspace.database) as database,
        pycolmap.Database.open(affine.database) as more,
    ):
        first_new = np.zeros(workspace.count, dtype=np.uint32)
        for index in range(workspace.count):
            points = database.read_keypoints(index + 1)
            first_new[index] = len(points)
            both = np.concatenate((points, more.read_keypoints(index + 1)))
            database.update_keypoints(index + 1, both)
        for i, j in chosen:
            kinds = []
            if database.exists_two_view_geometry(i + 1, j + 1):
                kinds.append(database.read_matches(i + 1, j + 1))
            if more.exists_two_view_geometry(i + 1, j + 1):
                kinds.append(more.read_matches(i + 1, j + 1) + first_new[[i, j]])
            database.delete_matches(i + 1, j + 1)
            if kinds:
                database.write_matches(i + 1, j + 1, np.concatenate(kinds))
        database.clear_two_view_geometries()
    pairs.verify(workspace, threads)
