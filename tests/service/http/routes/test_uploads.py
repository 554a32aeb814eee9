"""Files that are sent in pieces, by the tus protocol, to a running service."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.inputs import resumable, upload_files
from service.keys import add_key
from tests.service.pictures import encode, form, make_picture
from tests.service.rooms import standing_video
from tests.service.running import Running, Serve, problem

ROOT = Path(__file__).parents[4]
MOST = 2**20


@pytest.fixture(scope="module")
def video() -> bytes:
    return standing_video()


@pytest.fixture
def service(serve: Serve) -> Running:
    return serve(upload_bytes=MOST)


def tus(**headers: Any) -> dict[str, str]:
    """Headers of the protocol, with `_` for `-`."""
    named = {name.replace("_", "-"): str(value) for name, value in headers.items()}
    return {"Tus-Resumable": "1.0.0", **named}


def create(
    client: httpx.Client, length: int, name: str = "walk.mp4", **headers: str
) -> httpx.Response:
    metadata = f"filename {base64.b64encode(name.encode()).decode()}"
    sent = tus(Upload_Length=length, Upload_Metadata=metadata, **headers)
    return client.post("/uploads", headers=sent)


def send(
    client: httpx.Client, url: str, piece: bytes, offset: int, **headers: str
) -> httpx.Response:
    kind = "application/offset+octet-stream"
    sent = tus(Upload_Offset=offset, Content_Type=kind, **headers)
    return client.patch(url, content=piece, headers=sent)


def sent(client: httpx.Client, content: bytes, name: str = "walk.mp4", **headers: str) -> str:
    """The address of a file that has arrived whole."""
    url = create(client, len(content), name, **headers).headers["location"]
    assert send(client, url, content, 0, **headers).status_code == 204
    return url


def use(client: httpx.Client, url: str, **headers: str) -> httpx.Response:
    """A reconstruction of the file alone: a text field in a form of parts."""
    field = {"upload": (None, url.rpartition("/")[2])}
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.post("/reconstruct", files=field, headers=sent)


def test_a_video_in_pieces_is_reconstructed_as_if_it_were_in_the_form(
    service: Running, video: bytes
) -> None:
    client, half = service.client, len(video) // 2
    created = create(client, len(video), "küche.mp4")
    url = created.headers["location"]
    assert created.status_code == 201
    assert url.startswith("/uploads/")
    assert send(client, url, video[:half], 0).headers["upload-offset"] == str(half)
    assert client.head(url, headers=tus()).headers["upload-offset"] == str(half)
    assert "has not arrived whole" in problem(use(client, url), 422, "invalid-option")["detail"]
    assert send(client, url, video[half:], half).status_code == 204
    assert client.head(url, headers=tus()).headers["upload-offset"] == str(len(video))
    answer = use(client, url)
    assert answer.status_code == 200, answer.text
    names = [picture["filename"] for picture in answer.json()["pictures"]]
    assert len(names) == 4
    assert all(name.startswith("küche") for name in names), names
    whole = client.post("/reconstruct", files={"video": ("küche.mp4", video)}).json()
    assert whole["reused"]
    assert whole["id"] == answer.json()["id"]


def test_an_upload_stands_where_the_form_names_it(service: Running, video: bytes) -> None:
    url = sent(service.client, video)
    parts: list[Any] = [
        ("images", ("first.png", encode(make_picture()), "image/png")),
        ("upload", (None, url.rpartition("/")[2])),
        ("images", ("last.png", encode(make_picture(seed=1)), "image/png")),
    ]
    pictures = service.client.post("/reconstruct", files=parts).json()["pictures"]
    assert pictures[0]["filename"] == "first.png"
    assert pictures[-1]["filename"] == "last.png"
    assert len(pictures) == 6


def test_an_upload_goes_on_after_a_restart(serve: Serve, video: bytes) -> None:
    service = serve(upload_bytes=MOST)
    half = len(video) // 2
    url = create(service.client, len(video)).headers["location"]
    send(service.client, url, video[:half], 0)
    service.stop()
    again = serve(upload_bytes=MOST, data_dir=service.data_dir)
    assert again.client.head(url, headers=tus()).headers["upload-offset"] == str(half)
    assert send(again.client, url, video[half:], half).status_code == 204
    assert use(again.client, url).status_code == 200


def test_what_arrived_whole_just_before_a_kill_can_be_used(serve: Serve, video: bytes) -> None:
    service = serve(upload_bytes=MOST)
    url = sent(service.client, video)
    service.stop()
    folder = service.data_dir / "uploads"
    for path in (folder / "complete").iterdir():  # as the library has it before its last step
        path.rename(folder / "partial" / path.name)
    again = serve(upload_bytes=MOST, data_dir=service.data_dir)
    assert use(again.client, url).status_code == 200


def test_a_piece_at_the_wrong_place_is_refused_and_changes_nothing(
    service: Running, video: bytes
) -> None:
    url = create(service.client, len(video)).headers["location"]
    assert send(service.client, url, video[:100], 0).status_code == 204
    assert send(service.client, url, video[:100], 0).status_code == 409
    assert send(service.client, url, video, 100).status_code == 413
    assert service.client.head(url, headers=tus()).headers["upload-offset"] == "100"


def test_a_piece_that_is_too_large_is_refused_with_what_to_set(
    service: Running, video: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resumable, "PIECE_BYTES", 1000)
    url = create(service.client, len(video)).headers["location"]
    refused = problem(send(service.client, url, video[:1001], 0), 413, "too-many-bytes")
    assert "chunkSize" in refused["detail"]
    assert send(service.client, url, video[:1000], 0).status_code == 204


def test_an_upload_belongs_to_the_key_or_token_that_it_was_made_with(
    serve: Serve, video: bytes, tmp_path: Path
) -> None:
    keys = tmp_path / "keys.json"
    alice, bob = ({"Authorization": f"Bearer {add_key(keys, name)}"} for name in ("alice", "bob"))
    a, b = {"Owner_Token": "a" * 20}, {"Owner_Token": "b" * 20}
    for service, mine, other in (
        (serve(upload_bytes=MOST, api_keys=keys), alice, bob),
        (serve(upload_bytes=MOST), a, b),
        (serve(upload_bytes=MOST), a, {}),
    ):
        client = service.client
        url = sent(client, video, **mine)
        headers = {name.replace("_", "-"): value for name, value in other.items()}
        problem(client.get(url, headers={**tus(), **headers}), 404, "not-found")
        problem(client.delete(url, headers={**tus(), **headers}), 404, "not-found")
        problem(send(client, url, b"x", 0, **other), 404, "not-found")
        refused = problem(use(client, url, **other), 422, "invalid-option")
        assert refused["option"] == "upload"
        assert use(client, url, **mine).status_code == 200


def test_without_a_key_nothing_is_taken_and_nothing_written(serve: Serve, tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    add_key(keys, "alice")
    service = serve(upload_bytes=MOST, api_keys=keys)
    problem(create(service.client, 10), 401, "key-required")
    problem(send(service.client, f"/uploads/{'0' * 36}", b"x", 0), 401, "key-required")
    assert not list((service.data_dir / "uploads" / "partial").iterdir())


def test_another_method_in_a_header_changes_nothing(service: Running, video: bytes) -> None:
    url = create(service.client, len(video)).headers["location"]
    service.client.get(url, headers=tus(X_HTTP_Method_Override="POST", Upload_Length=10))
    assert len(list((service.data_dir / "uploads" / "partial").glob("*.meta"))) == 1


def test_uploads_have_only_so_much_room_and_removing_one_gives_its_back(
    service: Running,
) -> None:
    url = create(service.client, MOST - 10).headers["location"]
    refused = problem(create(service.client, 11), 429, "queue-full")
    assert "At most 1048576 bytes" in refused["detail"]
    assert service.client.delete(url, headers=tus()).status_code == 204
    assert create(service.client, 11).status_code == 201


@pytest.mark.parametrize("length", ["1_000_000_000", "+5", "-1", "many", ""])
def test_a_length_that_is_no_number_is_refused(service: Running, length: str) -> None:
    answer = service.client.post("/uploads", headers=tus(Upload_Length=length))
    assert answer.status_code in (400, 422)
    assert not list((service.data_dir / "uploads" / "partial").iterdir())


def test_one_of_several_keys_gets_half_of_the_room(serve: Serve, tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    alice, bob = ({"Authorization": f"Bearer {add_key(keys, name)}"} for name in ("alice", "bob"))
    service = serve(upload_bytes=MOST, api_keys=keys)
    problem(create(service.client, MOST // 2 + 1, **alice), 429, "queue-full")
    for key in (alice, bob):
        assert create(service.client, MOST // 2, **key).status_code == 201


def test_what_is_too_large_for_a_request_is_refused_before_it_is_sent(serve: Serve) -> None:
    service = serve(upload_bytes=MOST, max_total_bytes=1000)
    assert create(service.client, 1001).status_code == 413
    url = sent(service.client, bytes(900))
    parts: list[Any] = [("upload", (None, url.rpartition("/")[2]))] * 2
    answer = service.client.post("/reconstruct", files=parts)
    problem(answer, 413, "too-many-bytes")


def test_a_large_file_that_is_no_container_is_refused(serve: Serve) -> None:
    service = serve(upload_bytes=MOST, max_image_bytes=1000)
    url = sent(service.client, bytes(1001))
    assert (
        "no archive or video" in problem(use(service.client, url), 422, "invalid-option")["detail"]
    )


def test_old_uploads_are_removed(service: Running, video: bytes) -> None:
    old, young = create(service.client, 10).headers["location"], sent(service.client, video)
    for path in (service.data_dir / "uploads" / "partial").iterdir():
        age = time.time() - 3600 * upload_files.KEPT_HOURS - 1
        os.utime(path, (age, age))
    service.application.uploads.tidy()
    problem(service.client.get(old, headers=tus()), 404, "not-found")
    assert use(service.client, young).status_code == 200


def test_only_so_many_pieces_arrive_at_a_time(service: Running, video: bytes) -> None:
    url = create(service.client, len(video)).headers["location"]
    service.application.uploads._at_once = 0
    answer = send(service.client, url, video, 0)
    problem(answer, 503, "too-many-connections")
    assert answer.headers["retry-after"]


@pytest.mark.parametrize("id", ["", "x", "..%2f..%2fjobs.sqlite3", "0" * 36, "a" * 5000])
def test_an_id_that_is_none_is_told_so(service: Running, id: str) -> None:
    parts = {"upload": (None, id)}
    refused = problem(service.client.post("/reconstruct", files=parts), 422, "invalid-option")
    assert refused["option"] == "upload"


def test_nothing_is_taken_unless_the_operator_says_so(serve: Serve) -> None:
    service = serve()
    assert create(service.client, 10).status_code == 404
    assert service.client.get("/capabilities").json()["resumable_uploads"] is False
    parts = [*form(encode(make_picture())), ("upload", (None, "x"))]
    answer = service.client.post("/reconstruct", files=parts)
    assert "--upload-bytes" in problem(answer, 422, "invalid-option")["detail"]


def test_the_protocols_own_client_goes_on_where_it_was_killed(
    service: Running, video: bytes, tmp_path: Path
) -> None:
    modules = ROOT / "build" / "tus"
    node = shutil.which("node")
    if node is None or not (modules / "node_modules").exists():
        pytest.skip("there is no tus-js-client; `make build/tus/node_modules` installs one")
    path = tmp_path / "walk.mp4"
    padding = max(3 * 2**16 - len(video), 0)
    path.write_bytes(video + (padding + 8).to_bytes(4, "big") + b"free" + bytes(padding))

    def run(*what: str) -> str:
        command = [node, str(Path(__file__).with_name("tus_client.mjs"))]
        command += [f"http://127.0.0.1:{service.port}/uploads", str(path), *what]
        environment = {"TUS_CLIENT": str(modules), "NAME": "küche.mp4", "TOKEN": "t" * 20}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    url = run("stop-after", str(2**16))
    mine = {"Owner-Token": "t" * 20}
    offset = service.client.head(url, headers={**tus(), **mine}).headers["upload-offset"]
    assert 0 < int(offset) < path.stat().st_size
    assert run("resume", url) == url
    assert use(service.client, url, **mine).status_code == 200
    stored = service.data_dir / "uploads" / "complete" / url.rpartition("/")[2]
    assert stored.read_bytes() == path.read_bytes()
