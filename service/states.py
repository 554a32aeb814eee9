"""The names of what a job can be and of what it goes through."""

from __future__ import annotations

from enum import Enum


class JobState(str, Enum):
    """What has become of a job. It is what is stored, and what clients read."""

    QUEUED = "queued"
    RUNNING = "running"
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    __str__ = str.__str__  # the word itself, in log lines and messages


ENDED = (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)
"""The states after which nothing more happens to a job."""

NETWORK_STAGES = ("transfer", "aggregator", "heads")
"""What a pass of the network goes through, in order."""

REFINEMENT_STAGES = ("features", "matching", "cameras", "dense")
"""What the refinement of a scene goes through, in order; the last only for dense depth."""

STAGES = (
    "upload",
    "decode",
    "preprocess",
    "queue",
    *NETWORK_STAGES,
    "post",
    *REFINEMENT_STAGES,
    "store",
    "export",
)
"""What a request goes through, in order."""
