"""Replicas that die, stop, are too few or kill what they touch: make ray-check."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.ray.cluster import PATIENCE, ROOT, Cluster, alive, descendants, started
from tests.service.ray.slow_replica import DEADLY

pytestmark = pytest.mark.stress

SLOW = "tests.service.ray.slow_replica"
KILLS = 6


@pytest.fixture(scope="module")
def cluster(artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    flags = ("--replicas", "2", "--stall-timeout", "6", "--queue-limit", "40")
    with started(artifact, tmp_path_factory.mktemp("cluster"), *flags, program=SLOW) as cluster:
        cluster.wait(lambda: cluster.running() == 2, "two replicas")
        yield cluster


def test_many_kills_lose_nothing(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    chance = random.Random(0)
    ids: list[str] = []
    for number in range(KILLS):
        with cluster.held():
            pair = [cluster.submit(2, 100 * number + 10 * k) for k in range(2)]
            ids += pair
            cluster.in_the_middle(chance.choice(pair))
            os.kill(chance.choice(cluster.replicas()), signal.SIGKILL)
    states = [cluster.ended(id)["state"] for id in ids]
    with capsys.disabled():
        print(f"\n{KILLS} replicas killed, {len(ids)} jobs: {states.count('succeeded')} succeeded")
    assert states == ["succeeded"] * len(ids)
    cluster.wait(lambda: cluster.running() == 2, "the last replica's successor")


def test_a_stuck_replica_is_left_and_replaced(cluster: Cluster) -> None:
    with cluster.held():
        ids = [cluster.submit(2, seed) for seed in (1000, 1010)]
        cluster.in_the_middle(*ids)
        stuck = cluster.replicas()[0]
        os.kill(stuck, signal.SIGSTOP)
    assert [cluster.ended(id)["state"] for id in ids] == ["succeeded", "succeeded"]
    assert cluster.client.get("/livez").status_code == 200
    cluster.wait(lambda: not alive(stuck), "the end of the stuck replica")
    cluster.wait(lambda: cluster.running() == 2 and len(cluster.replicas()) == 2, "its successor")


def test_a_job_that_kills_every_replica_is_given_up_and_the_service_goes_on(
    cluster: Cluster,
) -> None:
    found = cluster.ended(cluster.submit(DEADLY, 2000))
    assert found["state"] == "failed", found
    assert found["problem"]["type"] == "/problems/interrupted"
    cluster.wait(lambda: cluster.running() > 0, "a replica that lives")
    assert cluster.ended(cluster.submit(1, 3000))["state"] == "succeeded"


@pytest.mark.parametrize(
    "signals", [[signal.SIGKILL], [signal.SIGTERM, signal.SIGTERM]], ids=["killed", "told twice"]
)
def test_whatever_ends_the_service_ends_its_replicas(
    signals: list[int], artifact: Path, tmp_path: Path
) -> None:
    with started(artifact, tmp_path, program=SLOW) as cluster:
        with cluster.held():
            cluster.in_the_middle(cluster.submit(2))
            processes = descendants(cluster.process.pid)
            for number in signals:
                cluster.process.send_signal(number)
                time.sleep(0.2)
        cluster.process.wait(PATIENCE)
        # one of Ray's own tries for a minute to report the end of the others
        deadline = time.monotonic() + 100
        while left := {pid: name for pid, name in processes.items() if alive(pid)}:
            assert time.monotonic() < deadline, left
            time.sleep(0.1)


def test_replicas_come_with_the_work(artifact: Path, tmp_path: Path) -> None:
    with started(
        artifact, tmp_path, "--replicas", "2", "--min-replicas", "1", program=SLOW
    ) as cluster:
        assert cluster.running() == 1
        ids = [cluster.submit(2, 10 * number) for number in range(8)]
        cluster.wait(lambda: cluster.running() == 2, "a second replica")
        assert [cluster.ended(id)["state"] for id in ids] == ["succeeded"] * 8


@pytest.fixture
def head(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A Ray cluster that somebody else started; its address and its first process. Its token is in
    the environment."""
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "of the people who run the cluster")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        str(Path(sys.executable).with_name("ray")),
        "start",
        "--head",
        "--block",
        "--port",
        str(port),
    ]
    command += ["--num-cpus", "2", "--include-dashboard", "false", "--temp-dir", f"/tmp/ray-{port}"]
    command += ["--object-store-memory", str(2**28), "--disable-usage-stats"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    yield f"127.0.0.1:{port}", process
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    shutil.rmtree(f"/tmp/ray-{port}")


def test_a_cluster_that_was_there_before_wants_its_token_and_stays(
    head: tuple[str, subprocess.Popen[str]],
    artifact: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    address, ray = head
    with monkeypatch.context() as patch:
        patch.setenv("RAY_AUTH_TOKEN", "guessed")
        finished = _refused(artifact, "--ray-address", address)
        assert finished.startswith(f"error: --ray-address {address}: ")
        assert "RAY_AUTH_TOKEN" in finished
    with started(artifact, tmp_path, "--ray-address", address) as cluster:
        assert cluster.ended(cluster.submit(2))["state"] == "succeeded"
        assert any("ServeReplica" in name for name in descendants(ray.pid).values())
        cluster.process.send_signal(signal.SIGTERM)
        assert cluster.process.wait(PATIENCE) == 0
    processes = descendants(ray.pid).values()
    assert any("raylet" in name for name in processes)
    assert not any("ServeReplica" in name for name in processes)


def test_an_address_where_nothing_is_ends_in_one_sentence(artifact: Path) -> None:
    assert _refused(artifact, "--ray-address", "127.0.0.1:9").startswith(
        "error: --ray-address 127.0.0.1:9: nothing"
    )


def test_what_no_replica_can_load_ends_in_one_sentence(artifact: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(artifact, damaged)
    weights = damaged / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\xff")
    assert re.fullmatch(
        r"error: .*model.safetensors does not match its checksum.*", _refused(damaged)
    )


def _refused(artifact: Path, *flags: str) -> str:
    """The last line of a service that does not start."""
    command = [
        sys.executable,
        "-m",
        "service",
        "serve",
        "--artifact",
        str(artifact),
        "--engine",
        "ray",
        "--port",
        "0",
    ]
    finished = subprocess.run(
        [*command, "--log-level", "error", *flags],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert finished.returncode == 2
    return finished.stderr.splitlines()[-1]
