"""Ten replicas killed in mid-job while two serve, and the database restarted under them: every
accepted job ends in a result or a reported failure, once."""

from __future__ import annotations

import hashlib
import io
import json
import random
import threading
import time
import zipfile
from collections import Counter
from pathlib import Path

import httpx
import pytest

from tests.service.replicas import ENDED, Cluster, Replica
from tests.service.servers import ObjectServer, Postgres

pytestmark = pytest.mark.stress

KILLS = 10
RESTARTS = 6
CLIENTS = 4
SAMPLE = 10  # of the results, whose files are compared


class Load:
    """Clients that send pictures to whichever replica answers, until `over`."""

    def __init__(self) -> None:
        self.alive: list[Replica] = []
        self.accepted: dict[str, int] = {}
        self.outcomes: Counter[str] = Counter()
        self.over = threading.Event()

    def send(self, client: int) -> None:
        chance, turn = random.Random(client), 0
        while not self.over.wait(chance.uniform(0.5, 2.0)):
            turn += 1
            seed = 10**6 * client + 10 * turn
            try:
                answer = chance.choice(self.alive).post(seed)
            except (
                httpx.TransportError,
                RuntimeError,
            ):  # the other end, or this one, has just been closed
                self.outcomes["killed"] += 1
                continue
            self.outcomes[str(answer.status_code)] += 1
            assert answer.status_code in (202, 429, 503), answer.text
            if answer.status_code == 202:
                self.accepted[answer.json()["id"]] = seed


def check(id: str, replicas: list[Replica]) -> None:
    """Every file of a result is what its manifest says, and the same from all."""
    archives = [
        replica.client.get(f"/reconstructions/{id}/everything.zip").content for replica in replicas
    ]
    assert len(set(archives)) == 1
    archive = zipfile.ZipFile(io.BytesIO(archives[0]))
    for name, told in json.loads(archive.read("manifest.json"))["files"].items():
        assert hashlib.sha256(archive.read(name)).hexdigest() == told["sha256"], name


def test_ten_kills_of_replicas_lose_nothing(
    artifact: Path,
    tmp_path: Path,
    postgres: Postgres,
    object_server: ObjectServer,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cluster = Cluster(artifact, tmp_path, postgres, object_server, queue_limit=40, keep=10_000)
    load, chance = Load(), random.Random(0)
    load.alive = [replica.wait_until_ready() for replica in (cluster.start(), cluster.start())]
    threads = [threading.Thread(target=load.send, args=(client,)) for client in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(KILLS):
            time.sleep(chance.uniform(0.5, 2.0))
            victim = cluster.busy()
            load.alive = [replica for replica in load.alive if replica is not victim]
            victim.kill()
            load.alive = [*load.alive, cluster.start().wait_until_ready()]
        load.over.set()
        for thread in threads:
            thread.join()
        states: Counter[str] = Counter()
        for id in load.accepted:
            states[load.alive[0].wait_for_state(id, *ENDED)["state"]] += 1
        rows = {id: cluster.row(id) for id in load.accepted}
        taken_over = [id for id, row in rows.items() if row["token"] > 1]
        for id in (*taken_over, *chance.sample(sorted(rows), SAMPLE)):
            if rows[id]["state"] == "succeeded":
                check(id, load.alive)
                assert str(rows[id]["token"]) in cluster.attempts(id)
    finally:
        load.over.set()
        cluster.stop()
    with capsys.disabled():
        print(
            f"\n{KILLS} replicas killed in mid-job, {len(load.accepted)} accepted jobs: "
            f"{dict(states)}"
        )
        print(f"{len(taken_over)} were taken over; answers {dict(load.outcomes)}")
    assert sum(states.values()) == len(load.accepted) > KILLS
    assert states["succeeded"] + states["failed"] == len(load.accepted)
    assert taken_over


def test_restarts_of_the_database_in_mid_job_lose_nothing(
    artifact: Path,
    tmp_path: Path,
    postgres: Postgres,
    object_server: ObjectServer,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cluster = Cluster(artifact, tmp_path, postgres, object_server, queue_limit=40, keep=10_000)
    load, chance = Load(), random.Random(0)
    load.alive = [replica.wait_until_ready() for replica in (cluster.start(), cluster.start())]
    threads = [threading.Thread(target=load.send, args=(client,)) for client in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(RESTARTS):
            cluster.busy()
            time.sleep(chance.uniform(0.0, 0.5))
            postgres.stop()
            time.sleep(chance.uniform(0.0, 4.0))  # up to twice a lease
            postgres.start()
            time.sleep(chance.uniform(1.0, 3.0))
        load.over.set()
        for thread in threads:
            thread.join()
        states: Counter[str] = Counter()
        for id in load.accepted:
            states[load.alive[0].wait_for_state(id, *ENDED)["state"]] += 1
        for id in chance.sample(sorted(load.accepted), min(SAMPLE, len(load.accepted))):
            check(id, load.alive)
        assert all(replica.alive for replica in load.alive)
    finally:
        load.over.set()
        cluster.stop()
    with capsys.disabled():
        print(f"\n{RESTARTS} restarts, {len(load.accepted)} accepted jobs: {dict(states)}")
        print(f"answers {dict(load.outcomes)}")
    assert states == {"succeeded": len(load.accepted)}
    assert len(load.accepted) > RESTARTS
