"""Jobs as rows of their table, read and written within a transaction."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, select, update

from service.jobs.job import Job
from service.jobs.schema import jobs
from service.states import ENDED, JobState

UNDER_WAY = jobs.c.state.not_in(ENDED)
ROW = select(*(jobs.c[field.name] for field in fields(Job)))


def one(connection: Connection, wanted: Select) -> Job | None:
    """The first job of `wanted`, a narrower `ROW`."""
    found = every(connection, wanted)
    return found[0] if found else None


def every(connection: Connection, wanted: Select) -> list[Job]:
    """All jobs of `wanted`, a narrower `ROW`."""
    return [_job(dict(row)) for row in connection.execute(wanted).mappings()]


def written(connection: Connection, job: Job) -> Job:
    """The job, which from here on is the one on record."""
    connection.execute(update(jobs).where(jobs.c.id == job.id).values(columns(job)))
    return job


def columns(job: Job) -> dict[str, Any]:
    """The values of a job's row."""
    problem = None if job.problem is None else json.dumps(job.problem)
    return {**asdict(job), "state": job.state.value, "problem": problem}


def number(job: Job, now: float, after: int = 0) -> int:
    """The number of a job's next event: the milliseconds of its time, and above all that came
    before."""
    return max(int(1000 * now), job.event + 1, after + 1)


def position(id: str, *conditions: ColumnElement[bool]) -> Any:
    """Where in the queue a job stands that meets the conditions, as a query within another one."""
    return select(jobs.c.position).where(jobs.c.id == id, *conditions).scalar_subquery()


def _job(row: dict[str, Any]) -> Job:
    problem = None if row["problem"] is None else json.loads(row["problem"])
    return Job(**{**row, "state": JobState(row["state"]), "problem": problem})
