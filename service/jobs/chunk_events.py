"""Events of finished chunks on record, so that other replicas tell them, too; in a transaction of
the job store. They go with the end of their job."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping

from sqlalchemy import Connection, and_, delete, false, func, insert, or_, select

from service.jobs.events import Event
from service.jobs.schema import chunks


def record(connection: Connection, job: str, events: Collection[Event]) -> None:
    """Put those `events` of a job on record that are not there. A chunk that was worked on anew
    takes the place of its earlier event."""
    if not events:
        return
    last = connection.scalar(select(func.max(chunks.c.event)).where(chunks.c.job == job)) or 0
    rows = [
        {"job": job, "number": e.data["chunk"], "event": e.number, "data": json.dumps(e.data)}
        for e in events
        if e.number > last
    ]
    if rows:
        same = chunks.c.number.in_([row["number"] for row in rows])
        connection.execute(delete(chunks).where(chunks.c.job == job, same))
        connection.execute(insert(chunks), rows)


def recorded(connection: Connection, after: Mapping[str, int]) -> dict[str, list[Event]]:
    """Events of each job in `after` that are numbered above what it says there, in their order."""
    newer = [and_(chunks.c.job == job, chunks.c.event > number) for job, number in after.items()]
    rows = connection.execute(
        select(chunks).where(or_(false(), *newer)).order_by(chunks.c.event)
    ).all()
    found: dict[str, list[Event]] = {job: [] for job in after}
    for row in rows:
        found[row.job].append(Event(row.event, "chunk", json.loads(row.data)))
    return found


def forget(connection: Connection, job: str) -> None:
    """Remove all of a job."""
    connection.execute(delete(chunks).where(chunks.c.job == job))
