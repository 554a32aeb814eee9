from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from service.errors import StorageFull
from service.http.routes.reconstructions import encoded
from service.inference.engine import Engine
from service.inference.network_pass import Pass
from service.jobs.events import Event
from service.jobs.job import Job
from service.jobs.store import JobStore
from tests.service.pictures import encode, form, make_picture
from tests.service.running import Gate, Running, Serve, problem, wait_until

ASYNC = {"Prefer": "respond-async"}


@pytest.fixture(scope="module")
def service(serve: Serve) -> Running:
    return serve()


@pytest.fixture
def gated(serve: Serve) -> Iterator[Running]:
    """A service whose passes wait for ``engine.opened``."""
    service = serve(Gate, heartbeat=0.05)
    yield service
    service.engine.opened.set()


def post(
    service: Running, seed: int = 0, headers: dict[str, str] | None = None, **options: str
) -> httpx.Response:
    files = form(encode(make_picture(seed=seed)), encode(make_picture(seed=seed + 1)))
    return service.client.post("/reconstruct", files=files, data=options, headers=headers or {})


def read_events(text: str) -> list[tuple[int, str, dict[str, Any]]]:
    events = []
    for block in text.split("\n\n"):
        lines = dict(
            line.split(": ", 1)
            for line in block.splitlines()
            if ": " in line and not line.startswith(":")
        )
        if "data" in lines:
            events.append((int(lines["id"]), lines["event"], json.loads(lines["data"])))
    return events


# Waiting, or not


def test_with_respond_async_the_answer_is_where_the_result_will_be(gated: Running) -> None:
    answer = post(gated, headers=ASYNC)
    assert answer.status_code == 202
    assert answer.headers["preference-applied"] == "respond-async"
    assert int(answer.headers["retry-after"]) >= 1
    status = answer.json()
    assert (
        answer.headers["location"] == status["links"]["self"] == f"/reconstructions/{status['id']}"
    )
    assert status["state"] in ("queued", "running")
    gated.engine.opened.set()
    result = gated.wait_for_state(status["id"], "succeeded")
    assert len(result["pictures"]) == 2
    assert result["progress"] == 1
    assert result["created"] <= result["started"] <= result["finished"]


def test_with_wait_the_answer_comes_when_the_time_is_over_or_the_work_done(gated: Running) -> None:
    early = post(gated, headers={"Prefer": "wait=0"})
    assert early.status_code == 202
    again = post(gated, seed=5, headers={"Prefer": "respond-async, wait=1"})
    assert again.status_code == 202
    assert again.headers["preference-applied"] == "respond-async, wait=1"
    gated.engine.opened.set()
    late = post(gated, seed=9, headers={"Prefer": "wait=30"})
    assert late.status_code == 200
    assert late.headers["preference-applied"] == "wait=30"
    assert late.headers["content-location"] == f"/reconstructions/{late.json()['id']}"


def test_states_name_the_place_in_the_queue_and_the_time_left(gated: Running) -> None:
    ids = [post(gated, seed=10 * i, headers=ASYNC).json()["id"] for i in range(3)]
    assert gated.engine.entered.wait(30)
    running, first, second = (gated.client.get(f"/reconstructions/{id}").json() for id in ids)
    assert (running["state"], running["queue_position"]) == ("running", None)
    assert running["stage"] in ("transfer", "aggregator")
    assert 0 < running["progress"] < 1
    assert [status["queue_position"] for status in (first, second)] == [1, 2]
    assert 0 < first["eta_seconds"] < second["eta_seconds"]
    assert gated.client.get(f"/reconstructions/{ids[1]}").headers["retry-after"]
    gated.engine.opened.set()
    for id in ids:
        gated.wait_for_state(id, "succeeded")


def test_a_failure_is_kept_with_its_reason(serve: Serve) -> None:
    class Broken(Engine):
        def infer(self, *arguments: Any) -> Pass:
            raise KeyError("secret")

    service = serve(Broken)
    id = post(service, headers=ASYNC).json()["id"]
    status = service.wait_for_state(id, "failed")
    assert status["problem"]["type"] == "/problems/internal-error"
    assert "secret" not in json.dumps(status)
    problem(service.client.get(f"/reconstructions/{id}/points.ply"), 404, "not-found")
    # counted after it is told
    wait_until(lambda: service.metric('quantvggt_jobs_total{state="failed"}') == 1)


def test_a_request_may_set_itself_a_deadline(gated: Running) -> None:
    answer = post(gated, timeout="0.2")
    document = problem(answer, 504, "deadline-exceeded")
    assert "0.2 seconds" in document["detail"]


def test_files_of_what_is_not_done_are_a_conflict(gated: Running) -> None:
    id = post(gated, headers=ASYNC).json()["id"]
    answer = gated.client.get(f"/reconstructions/{id}/points.ply")
    problem(answer, 409, "not-finished")
    assert answer.headers["retry-after"]


# The same request again


def test_the_same_key_gives_the_same_reconstruction_and_runs_once(gated: Running) -> None:
    headers = {**ASYNC, "Idempotency-Key": "a-key"}
    first, second = post(gated, headers=headers), post(gated, headers=headers)
    assert (first.status_code, second.status_code) == (202, 202)
    assert first.headers["location"] == second.headers["location"]
    gated.engine.opened.set()
    gated.wait_for_state(first.json()["id"], "succeeded")
    third = post(gated, headers=headers)
    assert third.status_code == 200
    assert third.json()["id"] == first.json()["id"]
    assert gated.engine.calls == 1


def test_the_same_key_with_another_body_is_refused(service: Running) -> None:
    headers = {"Idempotency-Key": '"quoted key"'}
    assert post(service, seed=20, headers=headers).status_code == 200
    problem(post(service, seed=30, headers=headers), 422, "idempotency-key-reused")
    problem(post(service, seed=20, headers=headers, confidence="3"), 422, "idempotency-key-reused")


@pytest.mark.parametrize("key", ["", "x" * 256, "\x01"])
def test_a_key_that_is_none_is_refused(service: Running, key: str) -> None:
    problem(post(service, headers={"Idempotency-Key": key}), 422, "invalid-option")


def test_identical_pictures_and_options_are_answered_with_the_earlier_result(serve: Serve) -> None:
    service = serve()
    first = post(service).json()
    again = post(service).json()
    assert (first["reused"], again["reused"]) == (False, True)
    assert again["id"] == first["id"]
    assert service.metric("quantvggt_reused_total") == 1
    assert service.metric('quantvggt_stage_seconds_count{stage="aggregator"}') == 1
    assert post(service, confidence="50").json()["id"] != first["id"]
    assert post(service, headers={"Cache-Control": "no-cache"}).json()["id"] != first["id"]
    assert service.metric('quantvggt_stage_seconds_count{stage="aggregator"}') == 3


# Dismissal


def test_a_queued_reconstruction_is_cancelled_at_once_and_never_runs(gated: Running) -> None:
    running, queued = (post(gated, seed=10 * i, headers=ASYNC).json()["id"] for i in range(2))
    assert gated.engine.entered.wait(30)
    assert gated.client.delete(f"/reconstructions/{queued}").status_code == 204
    assert gated.client.get(f"/reconstructions/{queued}").json()["state"] == "cancelled"
    gated.engine.opened.set()
    gated.wait_for_state(running, "succeeded")
    assert gated.engine.calls == 1
    # cleared after its end is told
    wait_until(lambda: list((gated.data_dir / "incoming").iterdir()) == [])


def test_a_running_reconstruction_is_stopped_in_mid_pass(gated: Running) -> None:
    id = post(gated, headers=ASYNC).json()["id"]
    assert gated.engine.entered.wait(30)
    answer = gated.client.delete(f"/reconstructions/{id}")
    assert (answer.status_code, answer.json()["state"]) == (202, "cancelling")
    assert gated.client.delete(f"/reconstructions/{id}").status_code in (202, 204)
    gated.wait_for_state(id, "cancelled")
    assert gated.client.delete(f"/reconstructions/{id}").status_code == 204
    assert gated.client.get(f"/reconstructions/{id}").json()["state"] == "cancelled"
    assert gated.metric('quantvggt_cancelled_total{phase="running"}') == 1
    assert list((gated.data_dir / "results").iterdir()) == []


def test_a_finished_reconstruction_is_removed_with_its_files(service: Running) -> None:
    id = post(service, seed=40).json()["id"]
    assert service.client.delete(f"/reconstructions/{id}").status_code == 204
    for path in ("", "/points.ply", "/events"):
        problem(service.client.get(f"/reconstructions/{id}{path}"), 404, "not-found")
    assert not [
        path for path in (service.data_dir / "results").iterdir() if path.name.startswith(id)
    ]


def test_a_reconstruction_that_ends_while_it_is_being_removed_is_removed_with_its_result(
    gated: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = post(gated, headers=ASYNC).json()["id"]
    assert gated.engine.entered.wait(30)
    cancel = JobStore.cancel

    def late(store: JobStore, id: str, after: int = 0) -> Job | None:
        gated.engine.opened.set()
        gated.wait_for_state(id, "succeeded")
        return cancel(store, id, after)

    monkeypatch.setattr(JobStore, "cancel", late)
    assert gated.client.delete(f"/reconstructions/{id}").status_code == 204
    problem(gated.client.get(f"/reconstructions/{id}"), 404, "not-found")
    assert list((gated.data_dir / "results").iterdir()) == []


def test_who_waits_for_a_reconstruction_that_is_cancelled_is_told(gated: Running) -> None:
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(post, gated)
        assert gated.engine.entered.wait(30)
        (job,) = gated.application.store.waiting()
        gated.client.delete(f"/reconstructions/{job.id}")
        problem(waiting.result(), 409, "cancelled")


# Events


def test_events_tell_every_stage_up_to_the_end(gated: Running) -> None:
    id = post(gated, headers=ASYNC).json()["id"]
    gated.engine.opened.set()
    gated.wait_for_state(id, "succeeded")
    text = gated.client.get(f"/reconstructions/{id}/events").text
    assert [kind for _, kind, _ in read_events(text)] == ["end"]


def test_an_event_is_encoded_as_the_standard_wants_it() -> None:
    event = Event(7, "end", {"state": "failed"})
    assert encoded(event) == b'id: 7\nevent: end\ndata: {"state": "failed"}\n\n'


def test_an_event_tells_a_failure_as_a_problem_document() -> None:
    record = {"code": "interrupted", "message": "It ended.", "fields": {}}
    told = encoded(Event(7, "end", {"state": "failed", "problem": record})).decode()
    problem = json.loads(told.partition("data: ")[2])["problem"]
    assert (problem["type"], problem["status"]) == ("/problems/interrupted", 500)


def test_live_events_rise_and_can_be_resumed(gated: Running) -> None:
    id = post(gated, headers=ASYNC).json()["id"]
    seen: list[str] = []
    with gated.client.stream("GET", f"/reconstructions/{id}/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        for line in stream.iter_lines():
            seen.append(line)
            if line.startswith(": still here"):
                gated.engine.opened.set()
    events = read_events("\n".join(seen))
    numbers = [number for number, _, _ in events]
    assert numbers == sorted(set(numbers))
    stages = [data["stage"] for _, _, data in events if "stage" in data]
    expected = ["transfer", "aggregator", "heads", "post", "store"]
    assert [stage for stage in expected if stage in stages] == expected
    progress = [data["progress"] for _, _, data in events]
    assert progress == sorted(progress)
    assert events[-1][1:] == ("end", events[-1][2])
    assert events[-1][2]["state"] == "succeeded"
    rest = gated.client.get(
        f"/reconstructions/{id}/events", headers={"Last-Event-ID": str(numbers[-2])}
    ).text
    assert [kind for _, kind, _ in read_events(rest)] == ["end"]
    gone = gated.client.get(
        f"/reconstructions/{id}/events", headers={"Last-Event-ID": str(numbers[-1] + 10**6)}
    )
    assert gone.status_code == 204


@pytest.mark.parametrize("number", ["x", "-1", "9" * 30])
def test_a_last_event_that_is_none_is_refused(service: Running, number: str) -> None:
    id = post(service, seed=50).json()["id"]
    answer = service.client.get(f"/reconstructions/{id}/events", headers={"Last-Event-ID": number})
    problem(answer, 422, "invalid-option")


# The list


def test_the_list_is_paged_newest_first(serve: Serve) -> None:
    service = serve()
    ids = [post(service, seed=10 * i).json()["id"] for i in range(3)]
    page = service.client.get("/reconstructions", params={"limit": 2})
    assert [line["id"] for line in page.json()["reconstructions"]] == ids[:0:-1]
    assert f'<{page.json()["next"]}>; rel="next"' == page.headers["link"]
    rest = service.client.get(page.json()["next"]).json()
    assert [line["id"] for line in rest["reconstructions"]] == ids[:1]
    assert rest["next"] is None
    assert (
        service.client.get("/reconstructions", params={"state": "failed"}).json()["reconstructions"]
        == []
    )


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=101", "limit=x", "before=x", f"before={'0' * 32}", "state=lost"]
)
def test_a_bad_page_is_refused(service: Running, query: str) -> None:
    problem(service.client.get(f"/reconstructions?{query}"), 422, "invalid-option")


# Not there, not acceptable


@pytest.mark.parametrize(
    "id",
    [
        "0" * 32,
        "nothing",
        "%2e%2e%2f%2e%2e",
        "A" * 32,
        "0" * 31,
        "0" * 33,
        "..%2f..%2fetc%2fpasswd",
    ],
)
def test_an_unknown_id_is_not_found(service: Running, id: str) -> None:
    for path in (
        "",
        "/points.ply",
        "/depth/0.png",
        "/depth/0.npy",
        "/depth/0/preview.png",
        "/events",
        "/manifest.json",
    ):
        assert service.client.get(f"/reconstructions/{id}{path}").status_code == 404
    assert service.client.delete(f"/reconstructions/{id}").status_code == 404


def test_the_accept_header_chooses_between_document_and_scene(service: Running) -> None:
    url = f"/reconstructions/{post(service, seed=60).json()['id']}"
    glb = service.client.get(url, headers={"Accept": "model/gltf-binary"})
    assert glb.content == service.client.get(f"{url}/scene.glb").content
    assert glb.headers["content-type"] == "model/gltf-binary"
    assert glb.headers["vary"] == "Accept"
    assert service.client.get(url, headers={"Accept": "application/ply"}).content.startswith(
        b"ply\n"
    )
    assert (
        service.client.get(url, headers={"Accept": "text/html, */*;q=0.1"}).json()["state"]
        == "succeeded"
    )
    answer = service.client.get(url, headers={"Accept": "text/html"})
    assert "model/gltf-binary" in problem(answer, 406, "not-acceptable")["available"]
    problem(post(service, headers={"Accept": "image/png"}), 406, "not-acceptable")


def test_the_artifacts_path_leads_to_the_same_files(service: Running) -> None:
    url = f"/reconstructions/{post(service, seed=70).json()['id']}"
    answer = service.client.get(f"{url}/artifacts/points.ply?max_points=7")
    assert answer.status_code == 308
    assert answer.headers["location"] == f"{url}/points.ply?max_points=7"


# Restarts


def test_what_was_queued_or_running_is_done_after_a_restart_and_results_stay(serve: Serve) -> None:
    service = serve(Gate, shutdown_timeout=0)
    service.engine.opened.set()
    done = post(service).json()
    service.engine.opened.clear()
    service.engine.entered.clear()
    running, queued = (post(service, seed=10 * i, headers=ASYNC).json()["id"] for i in (1, 2))
    assert service.engine.entered.wait(30)
    service.stop()
    again = serve(data_dir=service.data_dir)
    assert again.client.get(f"/reconstructions/{done['id']}").json() == done
    for id in (running, queued):
        assert again.wait_for_state(id, "succeeded")["id"] == id
    wait_until(lambda: list((again.data_dir / "incoming").iterdir()) == [])


def test_deleting_works_on_a_full_disk_for_files_go_before_the_record(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = serve()
    answer = service.client.post("/reconstruct", files=form(encode(make_picture())))
    folder, store = service.result_folder(answer.json()["id"]), service.application.store
    forget = store.forget

    def on_a_full_disk(id: str) -> None:
        if folder.exists():  # what it holds is all the room there is
            raise StorageFull("There is no room.")
        forget(id)

    monkeypatch.setattr(store, "forget", on_a_full_disk)
    assert service.client.delete(answer.headers["location"]).status_code == 204
    assert service.client.get(answer.headers["location"]).status_code == 404
