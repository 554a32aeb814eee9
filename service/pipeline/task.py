"""What the pipeline has to know of a job."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Task:
    """The input's id, the name for the result, and when it was sent, in seconds since the epoch."""

    id: str
    result: str
    created: float
