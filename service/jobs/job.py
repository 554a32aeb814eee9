"""One reconstruction's record: what is known of it from its acceptance to its end."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from typing import Any

from service.pipeline.task import Task
from service.states import ENDED, JobState


def new_id() -> str:
    """A name for a reconstruction that can't be guessed: 122 random bits as 32 hexadecimal
    digits."""
    return uuid.uuid4().hex


def is_id(text: str) -> bool:
    """Whether this can be such a name. What a database takes as no text, such as NUL, can't."""
    return re.fullmatch("[0-9a-f]{32}", text) is not None


@dataclass(frozen=True)
class Job:
    """A row of the job store. Times are seconds since the epoch; `client` is the API key's name, ""
    without keys.

    `token` counts how often the job was taken up: only who holds the latest one may record
    anything. Its attempts may be fewer, for a shutdown costs none. `worker` names the process that
    took it up last, and `lease_end` is when others may take it from that one, if ever. `event` is
    the number of the latest event that is on record, `bytes` the size of the result.
    """

    id: str
    client: str
    fingerprint: str
    frames: int
    predicted_seconds: float
    deadline: float
    created: float
    state: JobState = JobState.QUEUED
    started: float | None = None
    finished: float | None = None
    attempts: int = 0
    problem: dict[str, Any] | None = None
    token: int = 0
    worker: str | None = None
    lease_end: float | None = None
    stage: str | None = None
    progress: float = 0.0
    event: int = 0
    bytes: int = 0

    @property
    def ended(self) -> bool:
        return self.state in ENDED

    @property
    def result(self) -> str:
        """The name under which the result of the latest attempt is stored; earlier attempts have
        other names."""
        return f"{self.id}-{self.token}" if self.token else self.id

    @property
    def task(self) -> Task:
        """What the latest attempt works on."""
        return Task(self.id, self.result, self.created, self.deadline)
