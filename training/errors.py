"""What ends a training run."""

from __future__ import annotations


class TrainingError(RuntimeError):
    """The run cannot go on: it diverged, or its state belongs to another configuration."""
