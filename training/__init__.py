"""Training of the small demonstration network, a VGGT and no other, on synthetic scenes."""

from __future__ import annotations

from training.config import TrainingConfig
from training.curve import plot_curve
from training.errors import TrainingError
from training.trainer import export, train

__all__ = ["TrainingConfig", "TrainingError", "export", "plot_curve", "train"]
