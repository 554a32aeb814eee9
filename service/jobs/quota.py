"""What clients with API keys have used, in a transaction of the job store, and whether it is too
much."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import ColumnElement, Connection, and_, delete, func, insert, not_, select

from service.errors import QuotaExceeded
from service.jobs.schema import jobs, usage
from service.keys import Quota, Used
from service.states import JobState

_HOUR, _DAY = 3600.0, 86400.0


def check(
    connection: Connection, client: str, quota: Quota, now: float, megapixels: float = 0.0,
    started: int = 0, stores: bool = False,
) -> None:  # fmt: skip
    """Raises QuotaExceeded if the client may not send so many megapixels more, start so many
    reconstructions more, or, for one that `stores` a result, if it keeps too much. What is still
    under way counts as nothing kept."""
    used_by = used(connection, [client], now)[client]
    if started and quota.per_hour is not None and used_by.per_hour + started > quota.per_hour:
        raise QuotaExceeded(
            f"This API key may start {quota.per_hour} reconstructions an hour.",
            retry_after=_wait(connection, client, now, _HOUR),
            per_hour=quota.per_hour,
        )
    for name, sent, limit, seconds, period in (
        (
            "megapixels_per_hour",
            used_by.megapixels_per_hour,
            quota.megapixels_per_hour,
            _HOUR,
            "an hour",
        ),
        ("megapixels_per_day", used_by.megapixels_per_day, quota.megapixels_per_day, _DAY, "a day"),
    ):
        if limit is None:
            continue
        # the pictures of what is started were counted before
        if sent + megapixels > limit or (sent >= limit and not started):
            raise QuotaExceeded(
                f"This API key may send pictures of {limit:g} megapixels {period}.",
                retry_after=_wait(connection, client, now, seconds),
                **{name: limit},
            )
    most = quota.stored_bytes
    if stores and most is not None and used_by.stored_bytes >= most:
        raise QuotaExceeded(
            f"This API key's results take {used_by.stored_bytes} bytes, and may take {most}. "
            "Remove some of them with DELETE.",
            stored_bytes=most,
        )


def spend(connection: Connection, client: str, now: float, megapixels: float, started: int) -> None:
    """Count what was sent and started, and forget what counts no more."""
    connection.execute(delete(usage).where(usage.c.client == client, not_(_since(now, _DAY))))
    row = {"client": client, "time": now, "jobs": started, "megapixels": megapixels}
    connection.execute(insert(usage).values(row))


def used(connection: Connection, clients: Collection[str], now: float) -> dict[str, Used]:
    """What each of the clients has used."""
    hour = _since(now, _HOUR)
    recent = connection.execute(
        select(
            usage.c.client,
            func.coalesce(func.sum(usage.c.jobs).filter(hour), 0),
            func.coalesce(func.sum(usage.c.megapixels).filter(hour), 0.0),
            func.sum(usage.c.megapixels),
        )
        .where(usage.c.client.in_(clients), _since(now, _DAY))
        .group_by(usage.c.client)
    )
    spent = {
        client: (int(started), float(sent), float(day)) for client, started, sent, day in recent
    }
    kept = connection.execute(
        select(jobs.c.client, func.sum(jobs.c.bytes))
        .where(jobs.c.client.in_(clients), jobs.c.state == JobState.SUCCEEDED)
        .group_by(jobs.c.client)
    )
    stored = {client: int(bytes) for client, bytes in kept}
    return {
        client: Used(*spent.get(client, (0, 0.0, 0.0)), stored.get(client, 0)) for client in clients
    }


def _since(now: float, seconds: float) -> ColumnElement[bool]:
    """What was used so lately. What lies far ahead was counted before the clock was set back."""
    return usage.c.time.between(now - seconds, now + _HOUR)


def _wait(connection: Connection, client: str, now: float, seconds: float) -> float:
    """Until the oldest of what counts does so no more."""
    counts = and_(usage.c.client == client, _since(now, seconds))
    oldest = connection.scalar(select(func.min(usage.c.time)).where(counts))
    return (now if oldest is None else float(oldest)) + seconds - now
