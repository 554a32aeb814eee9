"""The service as one Ray Serve application behind Serve's proxy: make ray-check."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from quantvggt.client import Client
from tests.service.ray.cluster import PATIENCE, ROOT, Cluster, descendants

pytestmark = pytest.mark.stress

PROGRAM = """
import json, sys, time
import ray
from ray import serve
from service.ray import replica
from tests.service.ray.slow_replica import SlowReplica
replica.Replica = SlowReplica
from service.ray.ingress import RESOURCE, application
options = json.loads(sys.argv[1])
ray.init("local", num_cpus=2, resources={RESOURCE: 1}, include_dashboard=False,
         object_store_memory=2**28,
         log_to_driver=False, _temp_dir=options["folder"])
serve.start(http_options={"port": options["port"]})
serve.run(application(options["arguments"]), name="quantvggt", route_prefix="/")
print("runs", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def cluster(artifact: Path, tmp_path: Path) -> Iterator[Cluster]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    arguments = {
        "artifact": str(artifact),
        "data_dir": str(tmp_path / "data"),
        "replicas": 2,
        "replica_cpus": 1,
    }
    options = {"port": port, "folder": f"/tmp/ray-{port}", "arguments": arguments}
    environment = {
        "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_TOKEN": "of this test",
        "HOLD": str(tmp_path / "hold"),
    }  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, json.dumps(options)],
        cwd=ROOT, env={**os.environ, **environment},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "runs\n"
    url = f"http://127.0.0.1:{port}"
    Client(url).wait_until_ready(PATIENCE)
    with httpx.Client(base_url=url, trust_env=False, timeout=PATIENCE) as client:
        yield Cluster(process, client, tmp_path / "hold")
    process.communicate("", timeout=PATIENCE)
    shutil.rmtree(f"/tmp/ray-{port}")


def test_it_answers_behind_the_proxy_and_a_killed_ingress_loses_nothing(cluster: Cluster) -> None:
    assert cluster.ended(cluster.submit(2))["state"] == "succeeded"
    with cluster.held():
        ids = [cluster.submit(2, seed) for seed in (10, 20)]
        with cluster.client.stream("GET", f"/reconstructions/{ids[0]}/events") as events:
            first = next(line for line in events.iter_lines() if line.startswith("data:"))
        assert re.search('"state": "(queued|running)"', first)
        cluster.in_the_middle(*ids)
        before = cluster.replicas()
        (ingress,) = [
            pid
            for pid, name in descendants(cluster.process.pid).items()
            if "quantvggt:Ingress" in name
        ]
        os.kill(ingress, signal.SIGKILL)
    cluster.wait(lambda: len(set(cluster.replicas()) - {ingress}) == len(before), "another ingress")
    assert [cluster.ended(id)["state"] for id in ids] == ["succeeded", "succeeded"]
    assert set(before) - {ingress} <= set(cluster.replicas())  # those of the network have lived on
