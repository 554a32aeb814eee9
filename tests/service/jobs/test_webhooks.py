"""Addresses that are told of a reconstruction's end, by a running service."""

from __future__ import annotations

import json
import re
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import make_url

from service.inputs.remote.fetcher import Fetcher
from service.jobs import webhooks
from service.jobs.bounds import Bounds
from service.jobs.database import Database
from service.jobs.job import Job, new_id
from service.jobs.store import JobStore
from service.jobs.webhooks import Webhooks
from service.settings import AccessSettings, Limits, SettingsError
from service.telemetry.metrics import Metrics
from tests.service.pictures import encode, form, make_picture
from tests.service.receiver import Receiver, receiving
from tests.service.running import Running, Serve, problem, wait_until
from tests.service.stress.conftest import Start, start

__all__ = ["start"]  # a fixture

SECRET = "of-sixteen-characters-at-least"
DOCS = Path(__file__).parents[3] / "docs" / "serving.md"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text(SECRET + "\n")
    return path


@pytest.fixture
def service(serve: Serve, receiver: Receiver, secret: Path) -> Running:
    return serve(webhook_secret=secret, fetch_hosts=receiver.host)


def ask(client: httpx.Client, url: str) -> httpx.Response:
    return client.post(
        "/reconstruct",
        files=form(encode(make_picture())),
        data={"callback_url": url},
        headers={"Prefer": "respond-async"},
    )


def documented_check() -> Any:
    """The function that the documentation gives to those who are called."""
    code = re.search(r"\n(def genuine.*?)```", DOCS.read_text(), re.DOTALL)
    assert code is not None
    names: dict[str, Any] = {}
    exec("import base64, hashlib, hmac, time\n" + code[1], names)
    return names["genuine"]


def test_an_address_is_told_of_the_end_with_a_signature_that_the_documented_check_accepts(
    service: Running, receiver: Receiver
) -> None:
    id = ask(service.client, f"{receiver.host}/done?a=1").json()["id"]
    wait_until(lambda: service.metric('quantvggt_webhooks_total{outcome="delivered"}') == 1)
    ((path, headers, body),) = receiver.calls
    assert path == "/done?a=1"
    told = httpx.Response(200, content=body).json()
    assert told["type"] == "reconstruction.succeeded"
    assert told["data"] == {
        "id": id, "state": "succeeded", "problem": None, "link": f"/reconstructions/{id}",
    }  # fmt: skip
    genuine = documented_check()
    assert genuine(SECRET.encode(), headers, body)
    assert not genuine(SECRET.encode(), headers, body + b" ")
    assert not genuine(b"another secret", headers, body)
    old = {**headers, "Webhook-Timestamp": str(int(headers["Webhook-Timestamp"]) - 600)}
    assert not genuine(SECRET.encode(), old, body)
    assert "callback_url" not in service.client.get(f"/reconstructions/{id}").json()["options"]


def test_a_request_that_gets_an_earlier_result_is_told_of_it_too(
    service: Running, receiver: Receiver
) -> None:
    first = ask(service.client, f"{receiver.host}/first").json()["id"]
    wait_until(lambda: len(receiver.calls) == 1)
    assert ask(service.client, f"{receiver.host}/second").json()["id"] == first
    wait_until(lambda: [call[0] for call in receiver.calls] == ["/first", "/second"])


def test_a_call_that_fails_is_made_again_until_it_is_given_up(
    service: Running, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "WAITS", (0.01, 0.01))
    receiver.status = 500
    ask(service.client, f"{receiver.host}/down")
    wait_until(lambda: service.metric('quantvggt_webhooks_total{outcome="given-up"}') == 1)
    assert service.metric('quantvggt_webhooks_total{outcome="failed"}') == 2
    assert len(receiver.calls) == 3
    assert len({headers["Webhook-Id"] for _, headers, _ in receiver.calls}) == 1
    assert service.application.webhooks.take(8) == []


def test_a_call_that_is_due_survives_a_restart(
    serve: Serve, receiver: Receiver, secret: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "WAITS", (1.0,) * 100)
    settings = {"webhook_secret": secret, "fetch_hosts": receiver.host}
    service = serve(**settings)
    receiver.status = 503
    ask(service.client, f"{receiver.host}/late")
    wait_until(lambda: len(receiver.calls) == 1)
    service.stop()
    receiver.status = 200
    again = serve(**settings, data_dir=service.data_dir)
    wait_until(lambda: again.metric('quantvggt_webhooks_total{outcome="delivered"}') == 1)


@pytest.mark.parametrize("table", ["webhooks", "deliveries"])
def test_a_request_whose_callback_or_files_cannot_be_recorded_starts_nothing(
    serve: Serve, receiver: Receiver, secret: Path, table: str
) -> None:
    service = serve(webhook_secret=secret, fetch_hosts=receiver.host, send_outputs=True)
    option = {
        "webhooks": {"callback_url": f"{receiver.host}/done"},
        "deliveries": {"output_urls": json.dumps({"points.ply": f"{receiver.host}/points"})},
    }
    with closing(sqlite3.connect(service.data_dir / "jobs.sqlite3")) as database:
        database.execute(
            f"CREATE TRIGGER broken BEFORE INSERT ON {table} "
            "BEGIN SELECT abs(-9223372036854775807 - 1); END"  # fails: the number is too large
        )
        answer = service.client.post(
            "/reconstruct",
            files=form(encode(make_picture())),
            data=option[table],
            headers={"Prefer": "respond-async"},
        )
        problem(answer, 503, "store-unavailable")
        assert database.execute("SELECT count(*) FROM jobs").fetchone() == (0,)


@pytest.mark.parametrize("place", ["sqlite", "postgresql"])
def test_a_call_is_taken_by_one_replica_once_its_job_has_ended(
    place: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    location: Any = tmp_path / "jobs.sqlite3"
    if place == "postgresql":
        url = make_url(request.getfixturevalue("postgres").url())
        location = url.set(drivername="postgresql+psycopg")
    store = JobStore(Database(location), Bounds(4, 100.0))
    now = time.time()
    job = store.add(Job(new_id(), "", "f", 2, 1.0, now + 60, now))
    fetcher = Fetcher(AccessSettings(), Limits())
    replicas = [Webhooks(store.database, fetcher, b"secret", Metrics(None, 1)) for _ in range(2)]
    for url in ("https://example.org/a", "https://example.org/b", "https://example.org/a"):
        store.order(job.id, partial(replicas[0].order, url=url))
    assert replicas[0].take(8) == []
    store.cancel(job.id)
    taken = replicas[1].take(8)
    assert sorted(call.url for call in taken) == ["https://example.org/a", "https://example.org/b"]
    assert {(call.job, call.state, call.attempts) for call in taken} == {(job.id, "cancelled", 0)}
    assert replicas[0].take(8) == []
    store.order(job.id, partial(replicas[0].order, url="https://example.org/a"))
    store.forget(job.id)  # with its result whoever made it takes the call back
    assert replicas[0].take(8) == []
    store.close()


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9/", "https://example.org/", "file:///etc/passwd", "", "x" * 3000]
)
def test_an_address_that_may_not_be_asked_for_pictures_is_refused(
    service: Running, url: str
) -> None:
    answer = ask(service.client, url)
    assert problem(answer, 422, "invalid-option")["option"] == "callback_url"


def test_without_a_secret_nobody_is_called_and_the_request_is_refused(serve: Serve) -> None:
    service = serve()
    answer = ask(service.client, "https://example.org/")
    assert "--webhook-secret" in problem(answer, 422, "invalid-option")["detail"]
    assert service.client.get("/capabilities").json()["callbacks"] is False


def test_a_short_secret_or_none_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="can't be read"):
        webhooks.read_secret(tmp_path / "missing")
    (tmp_path / "short").write_text("secret\n")
    with pytest.raises(SettingsError, match="holds 6 characters"):
        webhooks.read_secret(tmp_path / "short")


@pytest.mark.slow
def test_a_call_that_is_due_survives_a_kill(
    start: Start, receiver: Receiver, secret: Path, tmp_path: Path
) -> None:
    flags = ("--data-dir", str(tmp_path / "data"), "--webhook-secret", str(secret))
    flags += ("--fetch-hosts", receiver.host)
    receiver.status = 500
    process, url = start(*flags)
    with httpx.Client(base_url=url, trust_env=False, timeout=60) as client:
        id = ask(client, f"{receiver.host}/done").json()["id"]
        wait_until(lambda: len(receiver.calls) == 1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    receiver.status = 200
    start(*flags)
    wait_until(lambda: len(receiver.calls) == 2)
    assert receiver.calls[1][1]["Webhook-Id"] == id
