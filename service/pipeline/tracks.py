"""Query points followed through a scene that takes several passes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from model.scene.preprocess import ImageTransform
from service.inference.network_pass import Tracks


class TrackHistory:
    """Where query points are, frame by frame, as passes find out.

    Each chunk takes up the points where the chunk before has them in the frame that it begins with.
    What is lost there stays lost: from then on visibility and confidence are multiplied by those at
    the handover.
    """

    def __init__(self, points: Sequence[tuple[float, float]], first: ImageTransform) -> None:
        """`points` are pixels of the first picture, which lies on the network grid as `first`
        says."""
        self._points = first.to_network(torch.tensor(points))
        self.tracks: Tracks | None = None

    def queries(self, frame: int) -> Tensor:
        """Where the points are in `frame`, network pixels `[N, 2]`: what a pass that begins there
        is asked for."""
        return self._points if self.tracks is None else self.tracks.points[frame]

    def extend(self, frame: int, found: Tracks | None) -> None:
        """Add what a pass that began with `frame` found; frames that are known stay as they are."""
        assert found is not None
        known = self.tracks
        if known is None:
            self.tracks = found
            return
        new = slice(len(known.points) - frame, None)
        confidence = None
        if known.confidence is not None and found.confidence is not None:
            confidence = torch.cat(
                (known.confidence, known.confidence[frame] * found.confidence[new])
            )
        self.tracks = Tracks(
            torch.cat((known.points, found.points[new])),
            torch.cat((known.visibility, known.visibility[frame] * found.visibility[new])),
            confidence,
        )
