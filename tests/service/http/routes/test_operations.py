from __future__ import annotations

import json
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, event
from sqlalchemy import Engine as DatabaseEngine

from service.inference.engine import Engine
from service.inference.network_pass import Pass
from service.result.document import DomainDocument, ModelDocument
from service.result.warnings import warnings_about
from tests.service.pictures import encode, form, make_picture
from tests.service.running import Gate, Running, Serve, problem, wait_until

EXIF_ORIENTATION = 0x0112


@pytest.fixture(scope="module")
def service(serve: Serve) -> Running:
    return serve(max_images=4, max_image_bytes=200_000, max_total_bytes=500_000, max_pixels=300_000)


def test_unknown_paths_and_methods_are_problems_too(service: Running) -> None:
    for answer, status in (
        (service.client.get("/nowhere"), 404),
        (service.client.get("/reconstruct"), 405),
    ):
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"


def test_every_problem_type_can_be_looked_up(service: Running) -> None:
    for slug in ("no-pictures", "too-many-pixels", "internal-error"):
        assert service.client.get(f"/problems/{slug}").json()["meaning"]
    problem(service.client.get("/problems/none"), 404, "not-found")


def test_before_the_model_is_loaded_the_service_lives_but_is_not_ready(serve: Serve) -> None:
    class Slow(Engine):
        loading = threading.Event()

        def load(self) -> None:
            assert self.loading.wait(30)
            super().load()

    service = serve(Slow, wait=False)
    assert service.client.get("/livez").status_code == 200
    assert service.client.get("/readyz").headers["retry-after"]
    problem(service.client.get("/readyz"), 503, "not-ready")
    problem(
        service.client.post("/reconstruct", files=form(encode(make_picture()))), 503, "not-ready"
    )
    assert service.metric("quantvggt_ready") == 0
    service.engine.loading.set()
    deadline = time.monotonic() + 120
    while service.client.get("/readyz").status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert service.metric("quantvggt_ready") == 1


def test_health_answers_while_an_inference_runs(serve: Serve) -> None:
    service = serve(Gate)
    with ThreadPoolExecutor() as pool:
        running = pool.submit(
            service.client.post, "/reconstruct", files=form(encode(make_picture()))
        )
        assert service.engine.entered.wait(30)
        for path in ("/livez", "/readyz", "/metrics", "/capabilities", "/"):
            assert service.client.get(path, timeout=5).status_code == 200
        assert not running.done()
        service.engine.opened.set()
        assert running.result().status_code == 200


def test_metrics_count_up(serve: Serve) -> None:
    service = serve()
    assert service.metric('quantvggt_requests_total{outcome="ok"}') == 0
    answer = service.client.post("/reconstruct", files=form(*[encode(make_picture())] * 2)).json()
    service.client.post("/reconstruct", files=form(b"nothing"))
    service.client.get(answer["links"]["points"])
    assert service.metric('quantvggt_requests_total{outcome="ok"}') == 1
    assert service.metric('quantvggt_requests_total{outcome="unsupported-picture"}') == 1
    assert service.metric('quantvggt_rejected_total{reason="unsupported-picture"}') == 1
    assert service.metric('quantvggt_jobs_total{state="succeeded"}') == 1
    assert service.metric('quantvggt_job_seconds_count{frames_bucket="2"}') == 1
    assert service.metric("quantvggt_queue_wait_seconds_count") == 1
    assert service.metric("quantvggt_admission_error_ratio_count") == 1
    assert service.metric("quantvggt_points_total") > 1000
    assert service.metric('quantvggt_artifact_bytes_total{format="points.ply"}') > 1000
    assert service.metric("quantvggt_frames_total") == 2
    for stage in (
        "decode",
        "preprocess",
        "queue",
        "transfer",
        "aggregator",
        "heads",
        "post",
        "store",
    ):
        assert service.metric(f'quantvggt_stage_seconds_count{{stage="{stage}"}}') == 1
    # with the job, and for the download
    assert service.metric('quantvggt_stage_seconds_count{stage="export"}') == 2
    assert service.metric('quantvggt_stage_seconds_count{stage="upload"}') == 2
    assert service.metric("process_resident_memory_bytes") > 1e6
    assert service.metric("quantvggt_queue_depth") == 0
    text = service.client.get("/metrics").text
    assert "quantvggt_build_info{" in text
    assert answer["model"]["artifact"] in text
    assert answer["id"] not in text


def test_a_scrape_asks_the_database_for_the_depth_of_the_queue_once(serve: Serve) -> None:
    service = serve()
    counts: list[str] = []  # idle workers look for jobs meanwhile, but count none

    def note(connection: Connection, cursor: Any, statement: str, *rest: Any) -> None:
        if (
            Path(connection.engine.url.database or "").parent == service.data_dir
            and "count(" in statement
        ):
            counts.append(statement)

    event.listen(DatabaseEngine, "before_cursor_execute", note)
    try:
        text = service.client.get("/metrics").text
    finally:
        event.remove(DatabaseEngine, "before_cursor_execute", note)
    assert "quantvggt_queue_depth 0.0" in text
    assert "quantvggt_ready 1.0" in text
    assert len(counts) == 1


def test_capabilities_state_limits_modes_and_the_model(service: Running) -> None:
    capabilities = service.client.get("/capabilities").json()
    assert capabilities["limits"]["max_images"] == 4
    assert capabilities["modes"] == ["fit", "crop", "pad", "public"]
    assert capabilities["network"] == {"image_size": 96, "patch_size": 12}
    assert capabilities["model"]["kernels"]
    assert capabilities["model"]["device"] == "cpu"
    assert capabilities["model"]["fallbacks"] == []


def test_a_model_that_has_seen_no_photographs_says_so_in_capabilities_results_and_log(
    serve: Serve, artifact: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rooms = shutil.copytree(artifact, tmp_path / "rooms")
    manifest = json.loads((rooms / "manifest.json").read_text())
    manifest["domain"] = {"trained_on": "drawn rooms", "photographs": False}
    (rooms / "manifest.json").write_text(json.dumps(manifest))
    service = serve(artifact=rooms)
    capabilities = service.client.get("/capabilities").json()
    assert capabilities["model"]["domain"] == manifest["domain"]
    (warning,) = capabilities["warnings"]
    assert warning["code"] == "not-for-photographs"
    assert "trained on drawn rooms only" in warning["message"]
    assert "quantise a checkpoint that was trained on them" in warning["message"]
    assert warning["message"] in caplog.text
    result = service.client.post("/reconstruct", files=form(encode(make_picture()))).json()
    assert result["warnings"] == [warning]
    assert service.client.get(result["links"]["manifest"]).json()["warnings"] == [warning]


@pytest.mark.parametrize(
    "domain", [None, {"trained_on": "photographs of streets", "photographs": True}]
)
def test_a_model_that_has_seen_photographs_or_does_not_say_warns_of_nothing(
    domain: dict[str, Any] | None,
) -> None:
    model = ModelDocument(
        name="m", artifact="a", weights_licence=None, device="cpu", kernels="reference",
        domain=None if domain is None else DomainDocument.model_validate(domain),
    )  # fmt: skip
    assert warnings_about(model) == []


def test_a_worker_that_is_stuck_fails_health(serve: Serve) -> None:
    class Stuck(Engine):
        released = threading.Event()

        def infer(self, *arguments: Any) -> Pass:
            assert self.released.wait(30)
            raise KeyError

    service = serve(Stuck, stall_timeout=0.2)
    headers = {"Prefer": "respond-async"}
    service.client.post("/reconstruct", files=form(encode(make_picture())), headers=headers)
    wait_until(lambda: service.client.get("/livez").status_code == 503)
    problem(service.client.get("/livez"), 503, "worker-stuck")
    problem(service.client.get("/readyz"), 503, "worker-stuck")
    service.engine.released.set()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_worker_whose_thread_has_ended_fails_health(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end(*arguments: Any) -> None:
        raise SystemExit  # the silent way for a thread to end

    service = serve()
    assert service.client.get("/livez").status_code == 200
    monkeypatch.setattr(service.application.store, "claim", end)
    wait_until(lambda: service.client.get("/livez").status_code == 503)
    problem(service.client.get("/livez"), 503, "worker-stuck")
    problem(service.client.get("/readyz"), 503, "worker-stuck")
