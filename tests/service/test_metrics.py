from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from tests.k8s.dashboard import ONLY_ON_A_GPU, dashboard_queries
from tests.service.pictures import encode, form, make_picture
from tests.service.running import Serve, wait_until


@pytest.fixture
def prometheus(tmp_path: Path, serve: Serve) -> Iterator[httpx.Client]:
    """A real Prometheus that scrapes a real service, which has reconstructed once."""
    if shutil.which("prometheus") is None:
        pytest.skip("Prometheus is not installed")
    service = serve()
    configuration = {
        "global": {"scrape_interval": "500ms", "scrape_timeout": "500ms"},
        "scrape_configs": [{"job_name": "quantvggt", "static_configs": [{"targets": [f"127.0.0.1:{service.port}"]}]}],
    }
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    command = ["prometheus", "--config.file=prometheus.yml", f"--web.listen-address=127.0.0.1:{port}"]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen([*command, "--storage.tsdb.path=data"], cwd=tmp_path, stderr=log)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:

            def scraped() -> bool:
                try:
                    answer = client.get("/api/v1/query", params={"query": "count_over_time(up[1m])"})
                except httpx.ConnectError:
                    return False
                return answer.status_code == 200 and bool(answer.json()["data"]["result"])

            wait_until(scraped, lambda: (tmp_path / "log").read_text())
            pictures = form(*(encode(make_picture(seed=seed)) for seed in range(2)))
            assert service.client.post("/reconstruct", files=pictures).status_code == 200
            time.sleep(2.0)  # two scrapes more, between which rates are taken
            yield client
    finally:
        process.terminate()
        process.wait()


def test_every_panel_shows_data_of_a_running_service(prometheus: httpx.Client) -> None:
    for title, queries in dashboard_queries().items():
        for query in queries:
            answer = prometheus.get("/api/v1/query", params={"query": query}).json()
            assert answer["status"] == "success", f"{title}: {answer}"
            if not any(name in query for name in ONLY_ON_A_GPU):
                assert answer["data"]["result"], f"{title}: no data for {query}"
