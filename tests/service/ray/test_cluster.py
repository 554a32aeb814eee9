"""A true service on a true Ray cluster of two replicas: one for all these tests, which the last one
ends."""

from __future__ import annotations

import io
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from service.jobs.bounds import Bounds
from service.jobs.database import Database
from service.jobs.store import JobStore
from service.local import reconstruct_here
from service.settings import Settings
from tests.service.pictures import encode, make_picture
from tests.service.ray.cluster import Cluster, alive, descendants, started
from tests.service.ray.slow_replica import ROOM


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cluster")


@pytest.fixture(scope="module")
def cluster(artifact: Path, folder: Path) -> Iterator[Cluster]:
    with started(
        artifact, folder, "--replicas", "2", program="tests.service.ray.slow_replica"
    ) as cluster:  # fmt: skip
        cluster.wait(lambda: cluster.running() == 2, "two replicas")
        yield cluster


def test_two_replicas_work_at_a_time_and_each_result_is_that_of_the_local_engine(
    cluster: Cluster, artifact: Path, tmp_path: Path
) -> None:
    with cluster.held():
        ids = [cluster.submit(3, seed) for seed in (0, 10)]
        cluster.in_the_middle(*ids)
    for id, seed in zip(ids, (0, 10), strict=True):
        assert cluster.ended(id)["state"] == "succeeded"
        paths = [tmp_path / f"{seed}-{i}.png" for i in range(3)]
        for i, path in enumerate(paths):
            path.write_bytes(encode(make_picture(seed=seed + i)))
        # as a replica: last bits may depend on how many there are
        here = Settings.of(artifact=artifact, threads=1)
        reconstruct_here(
            here,
            [(path.name, path) for path in paths],
            {},
            tmp_path / str(seed),
            lambda stage, share: None,
        )
        for i in range(3):
            there = np.load(
                io.BytesIO(cluster.client.get(f"/reconstructions/{id}/depth/{i}.npy").content)
            )
            np.testing.assert_array_equal(
                there, np.load(tmp_path / str(seed) / "depth" / f"{i}.npy")
            )


def test_a_killed_replica_loses_nothing_and_is_replaced(cluster: Cluster) -> None:
    with cluster.held():
        ids = [cluster.submit(2, seed) for seed in (0, 10, 20)]
        cluster.in_the_middle(*ids[:2])
        before = cluster.replicas()
        assert len(before) == 2
        os.kill(before[0], signal.SIGKILL)
    seen = dict.fromkeys(ids, 0.0)
    while any(cluster.look(id)["state"] in ("queued", "running") for id in ids):
        for id in ids:
            progress = cluster.look(id)["progress"]
            assert progress >= seen[id]
            seen[id] = progress
        time.sleep(0.05)
    assert [cluster.look(id)["state"] for id in ids] == ["succeeded"] * 3
    cluster.wait(lambda: cluster.running() == 2 and len(cluster.replicas()) == 2, "another replica")
    assert set(cluster.replicas()) - set(before)


def test_a_device_that_fails_is_told_its_replicas_are_replaced_and_the_job_is_done_again(
    cluster: Cluster, folder: Path
) -> None:
    before = cluster.replicas()
    broken = folder / "broken"
    broken.touch()
    id = cluster.submit(2, 25)
    try:
        cluster.wait(lambda: cluster.client.get("/readyz").status_code == 503, "no replica")
        assert cluster.look(id)["state"] == "running"
    finally:
        broken.unlink()
    assert cluster.ended(id)["state"] == "succeeded"
    cluster.wait(lambda: cluster.running() == 2 and len(cluster.replicas()) == 2, "new replicas")
    assert not set(cluster.replicas()) & set(before)
    assert cluster.client.get("/readyz").status_code == 200


def test_a_pass_is_stopped_when_its_job_is_cancelled(cluster: Cluster) -> None:
    with cluster.held():
        ids = [cluster.submit(2, seed) for seed in (30, 40)]
        cluster.in_the_middle(*ids)
        for id in ids:
            assert cluster.client.delete(f"/reconstructions/{id}").status_code in (200, 202, 204)
        cluster.wait(
            lambda: not any(cluster.look(id).get("state") == "running" for id in ids),
            "the jobs to stop",
        )
    assert cluster.ended(cluster.submit(1, 50))["state"] == "succeeded"
    assert len(cluster.replicas()) == 2  # and no replica had to die for it


def test_what_one_replica_has_no_memory_for_is_cut_down(cluster: Cluster) -> None:
    found = cluster.ended(cluster.submit(ROOM + 1, 60))
    assert found["state"] == "succeeded", found
    # with fewer keys it does not fit either, in chunks it does
    assert found["run"]["out_of_memory_recovered"] == 2
    assert found["run"]["degraded"] == ["chunked"]


def test_the_service_speaks_of_its_replicas(cluster: Cluster) -> None:
    model = cluster.client.get("/capabilities").json()["model"]
    assert model["device"] == "cpu"
    assert model["kernels"].startswith(("cpu", "reference"))
    # eight wait while two run
    assert "quantvggt_queue_capacity 10.0" in cluster.client.get("/metrics").text


def test_a_signal_lets_running_work_finish_and_leaves_no_process(
    cluster: Cluster, folder: Path
) -> None:
    with cluster.held():
        ids = [cluster.submit(2, seed) for seed in (70, 80, 90)]
        cluster.in_the_middle(*ids[:2])
        processes = descendants(cluster.process.pid)
        assert any("raylet" in name for name in processes.values())
        cluster.process.send_signal(signal.SIGTERM)
    assert cluster.process.wait(timeout=60) == 0
    assert "Traceback" not in (folder / "errors.txt").read_text()
    deadline = time.monotonic() + 10
    while left := {pid: name for pid, name in processes.items() if alive(pid)}:
        assert time.monotonic() < deadline, left
        time.sleep(0.05)
    store = JobStore(Database(folder / "data" / "jobs.sqlite3"), Bounds(10, 1e9))
    states = [found.state for found in map(store.get, ids) if found]
    store.close()
    assert states == ["succeeded", "succeeded", "queued"]
