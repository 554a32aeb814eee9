"""How much may be under way at once, and how much of it by one client."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from service.errors import QueueFull
from service.jobs.rows import UNDER_WAY
from service.jobs.schema import jobs


@dataclass(frozen=True)
class Bounds:
    """How much may be under way at once: jobs, and predicted seconds of them."""

    jobs: int
    seconds: float


@dataclass(frozen=True)
class Held:
    """The requests that are still being read: of one client, whose share is bounded, and of all."""

    client: str
    own: int
    all: int


def check_room(connection: Connection, bounds: Bounds, uploads: int = 0) -> None:
    """Raises QueueFull if nothing can wait beside `uploads` requests that are still being read."""
    counted = select(func.count(), func.coalesce(func.sum(jobs.c.predicted_seconds), 0.0)).where(
        UNDER_WAY
    )
    count, seconds = connection.execute(counted).one()
    if count + uploads >= bounds.jobs:
        raise QueueFull(
            f"{count + uploads} requests are under way and no more can wait.",
            retry_after=seconds / max(count, 1),
            queue_capacity=bounds.jobs,
        )
    if count and seconds >= bounds.seconds:
        raise QueueFull(
            f"{seconds:.0f} seconds of work are waiting; no more is taken.",
            retry_after=seconds - bounds.seconds,
            max_queue_seconds=bounds.seconds,
        )


def check_share(connection: Connection, bounds: Bounds, share: Held) -> None:
    """Raises QueueFull if a client holds as much as is free already."""
    of_client = func.count().filter(jobs.c.client == share.client)
    count, own = connection.execute(select(func.count(), of_client).where(UNDER_WAY)).one()
    free = bounds.jobs - int(count) - share.all
    if int(own) + share.own >= free:
        raise QueueFull(
            f"This API key has {int(own) + share.own} requests under way; what is left of the "
            "queue is kept for others.",
            queue_capacity=bounds.jobs,
        )
