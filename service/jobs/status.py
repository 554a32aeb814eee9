"""What a client is told of a job that has no result, or none yet."""

from __future__ import annotations

import time
from datetime import datetime, timezone

from service.jobs.job import Job
from service.jobs.store import JobStore
from service.jobs.worker import Worker
from service.result.document import StatusDocument, StatusLinks

_TRUSTED = 0.2  # from this share on, the work's own pace says more than the prediction


def status_of(job: Job, store: JobStore, worker: Worker) -> StatusDocument:
    """State, real stage and progress, place in the queue, and time left. For jobs without a result."""
    running = worker.activity(job.id)
    position, eta = None, None
    if job.state == "queued":
        ahead = store.ahead(job.id)
        position = len(ahead)
        lanes = max(worker.lanes, sum(other.state != "queued" for other in ahead))  # those of other replicas are seen
        eta = sum(_left(other, worker) for other in ahead) / lanes + job.predicted_seconds
    elif not job.ended:
        eta = _left(job, worker)
    assert job.state != "succeeded"
    return StatusDocument(
        id=job.id,
        state=job.state,
        progress=1.0 if job.ended else job.progress if running is None else running.progress,
        stage="queue" if job.state == "queued" else job.stage if running is None else running.stage,
        queue_position=position,
        eta_seconds=None if eta is None else round(eta, 3),
        frames=job.frames,
        created=_utc(job.created),
        started=None if job.started is None else _utc(job.started),
        finished=None if job.finished is None else _utc(job.finished),
        problem=job.problem,
        links=StatusLinks(self=f"/reconstructions/{job.id}", events=f"/reconstructions/{job.id}/events"),
    )


def _left(job: Job, worker: Worker) -> float:
    activity = worker.activity(job.id)
    if job.state == "queued" or job.started is None:
        return job.predicted_seconds
    elapsed, progress = time.time() - job.started, job.progress if activity is None else activity.progress
    if progress > _TRUSTED:
        return max(elapsed * (1 - progress) / progress, 0.0)
    return max(job.predicted_seconds - elapsed, 0.0)


def _utc(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, timezone.utc)
