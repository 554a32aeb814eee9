"""What the pipeline has to know of a job."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Task:
    """The input's id, the name for the result, when it was sent and when it has to be done, in
    seconds since the epoch."""

    id: str
    result: str
    created: float
    deadline: float = math.inf
