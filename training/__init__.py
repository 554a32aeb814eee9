"""Training of the small demonstration network, a VGGT and no other, on synthetic scenes."""

from __future__ import annotations

from training.curve import plot_curve
from training.trainer import TrainingConfig, TrainingError, export, train

__all__ = ["TrainingConfig", "TrainingError", "export", "plot_curve", "train"]
