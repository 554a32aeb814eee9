"""Dense depth from pictures with known cameras."""

from refinement.dense.depth import dense_depth

__all__ = ["dense_depth"]
