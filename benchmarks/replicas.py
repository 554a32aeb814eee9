"""How many jobs a minute the service does with one and with two replicas of the network, and
without Ray.

    python -m benchmarks.replicas --artifact build/demo/artifact
        [--views 8] [--jobs 12] [--rounds 5] [--json FILE]

Services run side by side, each copy of the network on one thread: Ray Serve with one replica, with
two, and without Ray the local engine, and two services with it that share the jobs, which is what
the machine has to give to two. In every round each in turn gets all jobs at once, so that whatever
else the machine does hits all alike; gains are ratios within a round. The processor time of a job,
in the service's own process and in those that it started, says what bounds the gain where all of
them share few cores. Prints a table.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx

from benchmarks.timing import machine, write
from quantvggt.client import Client

_RAY = ("--engine", "ray", "--replica-cpus", "1", "--replicas")
SERVICES: dict[str, list[tuple[str, ...]]] = {
    "one replica": [(*_RAY, "1")],
    "two replicas": [(*_RAY, "2")],
    "local engine": [()],
    "two of them": [(), ()],
}
_ENDED = ("succeeded", "failed", "cancelled")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--artifact", type=Path, required=True)
    parser.add_argument("--views", type=int, default=8)
    parser.add_argument("--jobs", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--pictures", type=Path, default=Path(__file__).parents[1] / "service" / "samples" / "rooms"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    options = parser.parse_args()
    paths = sorted(path for path in options.pictures.iterdir() if path.suffix in (".png", ".jpg"))
    if not paths:
        parser.error(f"--pictures {options.pictures}: no .png or .jpg pictures")
    contents = [paths[i % len(paths)].read_bytes() for i in range(options.views)]

    per_minute: dict[str, list[float]] = {name: [] for name in SERVICES}
    processor: dict[str, list[tuple[float, float]]] = {name: [] for name in SERVICES}
    with ExitStack() as stack:
        served = {
            name: [stack.enter_context(_served(options.artifact, flags)) for flags in processes]
            for name, processes in SERVICES.items()
        }
        for number in range(options.rounds + 1):
            for name, processes in served.items():
                before = _processor_seconds(processes)
                seconds = _work([client for client, _ in processes], contents, options.jobs)
                spent = [
                    (b - a) / options.jobs
                    for a, b in zip(before, _processor_seconds(processes), strict=True)
                ]
                if number:  # the first round warms up
                    per_minute[name].append(60 * options.jobs / seconds)
                    processor[name].append((spent[0], spent[1]))

    baseline = per_minute["one replica"]
    report = {
        "machine": machine(),
        "views": options.views,
        "jobs": options.jobs,
        "rounds": options.rounds,
        "services": {},
    }
    for name, found in per_minute.items():
        gains = [own / one for own, one in zip(found, baseline, strict=True)]
        low, middle, high = statistics.quantiles(gains, n=4, method="inclusive")
        own, started = (
            1000 * statistics.median(values) for values in zip(*processor[name], strict=True)
        )
        rate = statistics.median(found)
        report["services"][name] = {
            "jobs_per_minute": round(rate, 1),
            "over_one_replica": round(middle, 2),
            "low": round(low, 2),
            "high": round(high, 2),
            "processor_milliseconds_of_the_service": round(own),
            "processor_milliseconds_of_what_it_started": round(started),
        }
        print(
            f"{name:<14}{rate:8.1f} jobs/min   {middle:5.2f}x  [{low:.2f}, {high:.2f}]   "
            f"processor time of a job: {own:.0f} ms in the service, {started:.0f} ms in what it "
            "started"
        )
    write(options.json, report)


@contextmanager
def _served(artifact: Path, flags: tuple[str, ...]) -> Iterator[tuple[httpx.Client, int]]:
    """A service on one thread a replica, ready; and its process."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "service",
            "serve",
            "--artifact",
            str(artifact),
            "--port",
            "0",
            "--json",
        ]
        command += ["--data-dir", folder, "--queue-limit", "100", "--log-level", "warning", *flags]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        try:
            url = json.loads(process.stdout.readline())["url"]
            Client(url).wait_until_ready(300)
            with httpx.Client(base_url=url, trust_env=False, timeout=600) as client:
                wanted = int(flags[flags.index("--replicas") + 1]) if flags else 1
                while (
                    f'quantvggt_replicas{{state="running"}} {wanted}.0'
                    not in client.get("/metrics").text
                ):
                    time.sleep(0.2)
                yield client, process.pid
        finally:
            process.terminate()
            process.wait()
            process.stdout.close()


def _work(clients: list[httpx.Client], contents: list[bytes], jobs: int) -> float:
    """Seconds from the first of `jobs` uploads, to each service in turn, to the end of the last
    job."""
    files = [("images", (f"{i}.png", content, "image/png")) for i, content in enumerate(contents)]
    started = time.perf_counter()
    headers = {"Prefer": "respond-async", "Cache-Control": "no-cache"}
    waiting = []
    for number in range(jobs):
        client = clients[number % len(clients)]
        answer = client.post("/reconstruct", files=files, headers=headers)
        answer.raise_for_status()
        waiting.append((client, answer.json()["id"]))
    while waiting:
        client, id = waiting[0]
        found = client.get(f"/reconstructions/{id}").json()
        if found["state"] in _ENDED:
            if found["state"] != "succeeded":
                raise SystemExit(f"a job ended {found['state']}: {found.get('problem')}")
            waiting.pop(0)
        else:
            time.sleep(0.05)  # asking costs the service too
    return time.perf_counter() - started


def _processor_seconds(services: list[tuple[httpx.Client, int]]) -> tuple[float, float]:
    """Processor time of services so far, and of the processes below them that live."""
    parents, seconds = {}, {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        number = int(status.parent.name)
        parents[number] = int(fields[1])
        seconds[number] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    own = {pid for _, pid in services}
    family = set(own)
    while more := {child for child, parent in parents.items() if parent in family} - family:
        family |= more
    return sum(seconds[pid] for pid in own), sum(seconds[pid] for pid in family - own)


if __name__ == "__main__":
    main()
