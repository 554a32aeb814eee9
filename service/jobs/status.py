"""How far a job is that has no result, or none yet."""

from __future__ import annotations

from dataclasses import dataclass

from service.clock import clock
from service.jobs.job import Job
from service.jobs.store import JobStore
from service.jobs.worker import Worker
from service.states import JobState

_TRUSTED = 0.2  # from this share on, the work's own pace says more than the prediction


@dataclass(frozen=True)
class Status:
    """A job's stage and share done, how many run before it, and the seconds that are left."""

    job: Job
    stage: str | None
    progress: float
    queue_position: int | None
    eta_seconds: float | None


def status_of(job: Job, store: JobStore, worker: Worker) -> Status:
    """The status of a job, with what only its worker knows where it runs here."""
    running = worker.activity(job.id)
    position, eta = None, None
    if job.state == JobState.QUEUED:
        ahead = store.ahead(job.id)
        position = len(ahead)
        taken_up = sum(other.state != JobState.QUEUED for other in ahead)  # by any replica
        lanes = max(worker.lanes, taken_up)
        eta = sum(_left(other, worker) for other in ahead) / lanes + job.predicted_seconds
    elif not job.ended:
        eta = _left(job, worker)
    stage, progress = job.stage, job.progress
    if running is not None:
        stage, progress = running.stage, running.progress
    return Status(
        job,
        stage="queue" if job.state == JobState.QUEUED else stage,
        progress=1.0 if job.ended else progress,
        queue_position=position,
        eta_seconds=None if eta is None else round(eta, 3),
    )


def _left(job: Job, worker: Worker) -> float:
    activity = worker.activity(job.id)
    if job.state == JobState.QUEUED or job.started is None:
        return job.predicted_seconds
    elapsed = clock.now() - job.started
    progress = job.progress if activity is None else activity.progress
    if progress > _TRUSTED:
        return max(elapsed * (1 - progress) / progress, 0.0)
    return max(job.predicted_seconds - elapsed, 0.0)
