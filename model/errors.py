"""What can go wrong in `model/`, drawn against the pipeline: weights in, pictures in, geometry
out."""

from __future__ import annotations


class CheckpointError(ValueError):
    """A float checkpoint is missing, unreadable, or does not fit the network it is loaded into."""


class ArtifactError(ValueError):
    """A quantised artifact is missing, damaged, foreign, or written by a newer version of this
    project."""


class ImageError(ValueError):
    """A picture cannot be read or cannot be brought onto the network's pixel grid."""

    def __init__(self, message: str, index: int | None = None) -> None:
        super().__init__(message)
        self.index = index  # position of the offending picture in the list that was given


class ReconstructionError(RuntimeError):
    """The network answered with values that are not finite, so no scene can be built from them."""
