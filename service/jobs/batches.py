"""Batches on record: tables of scenes, each of which becomes a job sooner or later. They outlive
the process.

Each method is one transaction. What a scene became is asked of its job; here is what it is before
it has one, and why it has none.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, delete, func, insert, select, update

from service.errors import QueueFull, ServiceError
from service.jobs.database import Database
from service.jobs.job import is_id, new_id
from service.jobs.schema import batch_scenes, batches, jobs

_MOST_WAITING = 10_000  # scenes of all clients
_KEPT = 1000  # batches
_OF_ONE_CLIENT = 2  # scenes that are taken at a time
_AGAIN_SECONDS = 1800.0  # after which a scene is started again whose process has not told its fate


class Standing(str, Enum):
    """What is known of a scene without its job."""

    EXPECTED = "expected"  # its pictures are to be sent
    WAITING = "waiting"  # its pictures are to be fetched
    STARTED = "started"  # it has a job
    FAILED = "failed"  # it got none

    __str__ = str.__str__


@dataclass(frozen=True)
class SceneRequest:
    """One line of the table as it was sent. Without `urls` the pictures are sent later."""

    name: str
    urls: tuple[str, ...] = ()
    options: dict[str, str] | None = None


@dataclass(frozen=True)
class Batch:
    """A table of scenes, and whose it is: `client` is the API key's name, "" without keys."""

    id: str
    client: str
    created: float


@dataclass(frozen=True)
class BatchScene:
    """One line of a batch. `attempt` counts from 0; `problem` is an error's record: why it failed,
    or still waits."""

    batch: str
    number: int
    name: str
    urls: tuple[str, ...]
    options: dict[str, str]
    standing: Standing
    job: str | None
    problem: dict[str, Any] | None
    attempt: int

    @property
    def key(self) -> str:
        """Names the attempt, so that it is never two jobs at once."""
        return f"{self.batch}-{self.number}-{self.attempt}"


class BatchStore:
    """The batches in `database`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def recover(self) -> None:
        """After a start of the only process: what it was starting is due again."""
        if not self._database.shared:
            with self._database.transaction() as connection:
                connection.execute(update(batch_scenes).values(due=0.0))

    def add(self, client: str, scenes: Sequence[SceneRequest]) -> Batch:
        """Put a batch on record. Raises QueueFull where too many scenes wait to be fetched."""
        with self._database.transaction() as connection:
            self._database.alone(connection)
            waiting = _count(connection, batch_scenes.c.standing == Standing.WAITING)
            if waiting + len(scenes) > _MOST_WAITING:
                raise QueueFull(
                    f"{waiting} scenes of batches are waiting; at most {_MOST_WAITING} may.",
                    retry_after=600.0,
                )
            batch = Batch(new_id(), client, self._database.now(connection))
            connection.execute(insert(batches).values(asdict(batch)))
            connection.execute(
                insert(batch_scenes),
                [
                    {
                        "batch": batch.id,
                        "number": number,
                        "name": scene.name,
                        "urls": json.dumps(scene.urls),
                        "options": json.dumps(scene.options or {}),
                        "standing": Standing.WAITING if scene.urls else Standing.EXPECTED,
                        "attempt": 0,
                        "due": batch.created,
                    }
                    for number, scene in enumerate(scenes)
                ],
            )
        return batch

    def get(self, id: str) -> Batch | None:
        if not is_id(id):
            return None
        with self._database.transaction() as connection:
            found = connection.execute(_BATCH.where(batches.c.id == id)).one_or_none()
            return None if found is None else Batch(*found)

    def page(self, client: str, limit: int, before: str | None) -> list[Batch]:
        """A client's batches, newest first; those before batch `before`, if given."""
        wanted = _BATCH.where(batches.c.client == client)
        if before is not None:
            older = select(batches.c.number).where(
                batches.c.id == before, batches.c.client == client
            )
            wanted = wanted.where(batches.c.number < older.scalar_subquery())
        with self._database.transaction() as connection:
            rows = connection.execute(wanted.order_by(batches.c.number.desc()).limit(limit))
            return [Batch(*row) for row in rows]

    def scenes(self, id: str) -> list[BatchScene]:
        """The lines of a batch in their order; none for one that is not there."""
        of_batch = _SCENE.where(batch_scenes.c.batch == id).order_by(batch_scenes.c.number)
        with self._database.transaction() as connection:
            return [_scene(row) for row in connection.execute(of_batch)]

    def take(self, most: int, busy: Collection[str] = ()) -> list[tuple[Batch, BatchScene]]:
        """Scenes whose pictures are to be fetched now, the oldest first, and few of each client:
        `busy` are the clients of those that are being fetched, each once a scene. They are due
        again after a while, unless it is recorded what became of them: so none is lost with this
        process, and none is fetched by two replicas at once."""
        clients = Counter(busy)
        taken: list[tuple[Batch, BatchScene]] = []
        with self._database.transaction() as connection:
            now = self._database.now(connection)
            due = (
                _SCENE.join(batches, batches.c.id == batch_scenes.c.batch)
                .where(batch_scenes.c.standing == Standing.WAITING, batch_scenes.c.due <= now)
                .order_by(batch_scenes.c.due, batch_scenes.c.number)
                .limit(1)
                .with_for_update(skip_locked=True, of=batch_scenes)
            )
            while len(taken) < most:
                full = [client for client, scenes in clients.items() if scenes >= _OF_ONE_CLIENT]
                row = connection.execute(due.where(batches.c.client.not_in(full))).one_or_none()
                if row is None:
                    break
                scene = _scene(row)
                later = update(batch_scenes).where(_same(scene))
                connection.execute(later.values(due=now + _AGAIN_SECONDS))
                batch = Batch(*connection.execute(_BATCH.where(batches.c.id == scene.batch)).one())
                clients[batch.client] += 1
                taken.append((batch, scene))
        return taken

    def started(self, scene: BatchScene, job: str) -> bool:
        """Record the job of a scene; False if the batch is gone, or the scene was begun anew."""
        return self._write(scene, standing=Standing.STARTED, job=job, problem=None)

    def failed(self, scene: BatchScene, error: ServiceError) -> None:
        """Record why a scene got no job."""
        self._write(scene, standing=Standing.FAILED, problem=json.dumps(error.record()))

    def later(self, scene: BatchScene, error: ServiceError | None, seconds: float) -> None:
        """Have a scene wait for so long, and say why."""
        problem = None if error is None else json.dumps(error.record())
        with self._database.transaction() as connection:
            due = self._database.now(connection) + seconds
            connection.execute(
                update(batch_scenes).where(_same(scene)).values(problem=problem, due=due)
            )

    def again(self, scenes: Collection[BatchScene]) -> None:
        """Begin these anew."""
        with self._database.transaction() as connection:
            now = self._database.now(connection)
            for scene in scenes:
                connection.execute(
                    update(batch_scenes)
                    .where(_same(scene))
                    .values(
                        standing=Standing.WAITING if scene.urls else Standing.EXPECTED,
                        job=None,
                        problem=None,
                        attempt=scene.attempt + 1,
                        due=now,
                    )
                )

    def forget(self, id: str) -> list[str]:
        """Remove a batch, not its jobs. Returns these, by their ids."""
        with self._database.transaction() as connection:
            return _forget(connection, [id])

    def tidy(self, keep_seconds: float | None) -> None:
        """Remove batches that are too old or too many, once none of their scenes waits or has a
        job that is on record."""
        lives = select(batch_scenes.c.batch).where(
            (batch_scenes.c.standing == Standing.WAITING)
            | batch_scenes.c.job.in_(select(jobs.c.id))
        )
        with self._database.transaction() as connection:
            newest = select(batches.c.number).order_by(batches.c.number.desc()).offset(_KEPT - 1)
            surplus = batches.c.number < newest.limit(1).scalar_subquery()
            if keep_seconds is not None:
                surplus = surplus | (
                    batches.c.created < self._database.now(connection) - keep_seconds
                )
            dead = select(batches.c.id).where(surplus, batches.c.id.not_in(lives))
            _forget(connection, list(connection.scalars(dead)))

    def _write(self, scene: BatchScene, **values: Any) -> bool:
        with self._database.transaction() as connection:
            changed = connection.execute(update(batch_scenes).where(_same(scene)).values(values))
            return bool(changed.rowcount)


_BATCH = select(batches.c.id, batches.c.client, batches.c.created)
_SCENE = select(
    *(
        batch_scenes.c[name]
        for name in (
            "batch", "number", "name", "urls", "options", "standing", "job", "problem", "attempt",
        )
    )
)  # fmt: skip


def _scene(row: Any) -> BatchScene:
    return BatchScene(
        row.batch,
        row.number,
        row.name,
        tuple(json.loads(row.urls)),
        json.loads(row.options),
        Standing(row.standing),
        row.job,
        None if row.problem is None else json.loads(row.problem),
        row.attempt,
    )


def _same(scene: BatchScene) -> ColumnElement[bool]:
    """The row of this attempt."""
    return and_(
        batch_scenes.c.batch == scene.batch,
        batch_scenes.c.number == scene.number,
        batch_scenes.c.attempt == scene.attempt,
    )


def _count(connection: Connection, condition: ColumnElement[bool]) -> int:
    counted = select(func.count()).select_from(batch_scenes).where(condition)
    return int(connection.scalar(counted) or 0)


def _forget(connection: Connection, ids: Sequence[str]) -> list[str]:
    """Remove batches. Returns the ids of their scenes' jobs."""
    scenes = delete(batch_scenes).where(batch_scenes.c.batch.in_(ids))
    found = connection.scalars(scenes.returning(batch_scenes.c.job)).all()
    connection.execute(delete(batches).where(batches.c.id.in_(ids)))
    return [job for job in found if job is not None]
