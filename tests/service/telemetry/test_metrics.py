"""The exposition and the dashboard, as a true Prometheus reads and asks them."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.telemetry.metrics import Metrics
from tests.k8s.dashboard import ONLY_ON_A_GPU, dashboard_queries
from tests.service.pictures import encode, form, make_picture
from tests.service.running import Serve, wait_until

NAMES = [
    "requests", "jobs", "queue_depth", "queue_capacity", "queue_wait_seconds", "stage_seconds",
    "job_seconds", "frames", "points", "rejected", "cancelled", "oom", "degraded", "refinements",
    "artifact_bytes", "admission_error_ratio", "ready", "draining", "build_info",
]  # fmt: skip

Query = Callable[[str], list[float]]


def test_every_metric_is_there_from_the_start_under_its_name() -> None:
    found = text_string_to_metric_families(Metrics("cpu", 3).text().decode())
    names = {family.name.removesuffix("_info") for family in found}  # by parser, with it or not
    assert {f"quantvggt_{name}".removesuffix("_info") for name in NAMES} <= names


def test_frames_are_counted_in_buckets_of_powers_of_two() -> None:
    metrics = Metrics("cpu", 1)
    assert [metrics.frames_bucket(frames) for frames in (1, 2, 3, 8, 9, 500)] == [
        "1",
        "2",
        "4",
        "8",
        "16",
        "128",
    ]


@pytest.fixture(scope="module")
def query(serve: Serve, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Query]:
    """Asks a Prometheus that has scraped a service before and after its one reconstruction."""
    if shutil.which("prometheus") is None:
        pytest.skip("there is no prometheus on the PATH")
    folder = tmp_path_factory.mktemp("prometheus")
    service = serve()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (folder / "prometheus.yml").write_text(
        "global: {scrape_interval: 1s}\n"
        "scrape_configs: "
        f"[{{job_name: quantvggt, static_configs: [{{targets: ['127.0.0.1:{service.port}']}}]}}]\n"
    )
    command = [
        "prometheus",
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/data",
    ]
    command += [f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as prometheus:

            def ask(expression: str) -> list[float]:
                try:
                    answer = prometheus.get("/api/v1/query", params={"query": expression}).json()
                except (httpx.TransportError, ValueError):  # not listening, or not ready yet
                    return []
                assert answer["status"] == "success", f"{expression}: {answer}"
                return [float(series["value"][1]) for series in answer["data"]["result"]]

            wait_until(lambda: bool(ask("quantvggt_ready")))
            service.client.post("/reconstruct", files=form(encode(make_picture())))
            wait_until(lambda: ask('increase(quantvggt_requests_total{outcome="ok"}[1m])') > [0.0])
            yield ask
    finally:
        process.terminate()
        process.wait()


def test_a_true_prometheus_scrapes_and_answers_queries(query: Query) -> None:
    assert query('quantvggt_requests_total{outcome="ok"}') == [1.0]
    assert query("quantvggt_ready") == [1.0]
    assert query("count(quantvggt_build_info)") == [1.0]
    for name in NAMES:
        found = query(f'count({{__name__=~"quantvggt_{name}(_total|_count)?"}})')
        assert found, name
        assert found[0] >= 1


@pytest.mark.parametrize(("title", "queries"), dashboard_queries().items())
def test_every_panel_of_the_dashboard_shows_data(
    query: Query, title: str, queries: list[str]
) -> None:
    for expression in queries:
        found = query(expression)
        if not any(name in expression for name in ONLY_ON_A_GPU):
            assert found, f"{title}: no data for {expression}"
