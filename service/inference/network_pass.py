"""What one pass of the network gives and takes."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from model.errors import ReconstructionError
from model.network.prediction import Prediction
from model.scene.reconstruction import Reconstruction
from service.inference.cost import Cost
from service.states import NETWORK_STAGES


@dataclass(frozen=True)
class Tracks:
    """Where N query points of the first frame are in S frames: pixels of the network grid, and two
    probabilities.

    Pixel centres count from 0, as `ImageTransform.to_original` takes them. Not every track head
    knows a confidence.
    """

    points: Tensor  # [S, N, 2]
    visibility: Tensor  # [S, N]
    confidence: Tensor | None = None  # [S, N]


def tracks_of(prediction: Prediction) -> Tracks:
    """The tracks of a pass with query points. Raises ReconstructionError if they are not finite."""
    points, visibility, confidence = (
        None if value is None else value[0].float().cpu()
        for value in (prediction.track, prediction.vis, prediction.conf)
    )
    assert points is not None
    assert visibility is not None
    if not (points.isfinite().all() and visibility.isfinite().all()):
        raise ReconstructionError("its tracks are not finite")
    return Tracks(points, visibility, confidence)


@dataclass(frozen=True)
class Pass:
    """One pass of the network over S frames.

    The scene, descriptors [S, D] of the frames and tracks if asked for, seconds by stage, peak
    bytes beyond the model.
    """

    reconstruction: Reconstruction
    descriptors: Tensor | None
    tracks: Tracks | None
    seconds: dict[str, float]
    peak_bytes: int

    @property
    def cost(self) -> Cost:
        """What the network took; making a scene of its output does not count."""
        return Cost(self.peak_bytes, sum(self.seconds[stage] for stage in NETWORK_STAGES))
