"""Which job answers a request already: that of its idempotency key, unless it failed or was
cancelled, or a finished one with equal input."""

from __future__ import annotations

from sqlalchemy import Connection, and_, delete, insert, select

from service.errors import KeyReused
from service.jobs.job import Job
from service.jobs.rows import ROW, one
from service.jobs.schema import idempotency_keys, jobs
from service.states import JobState

_IN_VAIN = (JobState.CANCELLING, JobState.CANCELLED, JobState.FAILED)


def known(
    connection: Connection, client: str, fingerprint: str, key: str | None, reuse: bool
) -> Job | None:
    """The job that answers this request, or None. With `reuse` that may be a finished one, to which
    the key is then bound. Raises KeyReused if the key belongs to another request."""
    if key is not None:
        keys = idempotency_keys.c
        bound = connection.execute(
            select(keys.fingerprint, keys.job).where(keys.client == client, keys.key == key)
        ).one_or_none()
        if bound is not None:
            if bound.fingerprint != fingerprint:
                raise KeyReused(
                    "This Idempotency-Key was sent before with other pictures or options."
                )
            job = one(connection, ROW.where(jobs.c.id == bound.job))
            if job is not None and job.state not in _IN_VAIN:
                return job
    if not reuse:
        return None
    equal = and_(
        jobs.c.fingerprint == fingerprint,
        jobs.c.client == client,
        jobs.c.state == JobState.SUCCEEDED,
    )
    twin = one(connection, ROW.where(equal).order_by(jobs.c.position.desc()).limit(1))
    if twin is not None:
        bind(connection, twin, key)
    return twin


def bind(connection: Connection, job: Job, key: str | None) -> None:
    """From here on `key`, if there is one, stands for this job and no other."""
    if key is not None:
        keys = idempotency_keys.c
        connection.execute(
            delete(idempotency_keys).where(keys.client == job.client, keys.key == key)
        )
        row = {"client": job.client, "key": key, "fingerprint": job.fingerprint, "job": job.id}
        connection.execute(insert(idempotency_keys).values(row))
