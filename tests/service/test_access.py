from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from service.access import Access
from service.errors import KeyRequired
from service.http.app import create_app
from service.keys import KeysError, Quota, add_key
from tests.service.pictures import encode, form, make_picture
from tests.service.running import Running, Serve, problem, wait_until


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    path = tmp_path_factory.mktemp("keys") / "keys.json"
    return path, add_key(path, "alice"), add_key(path, "bob", Quota(per_hour=1))


@pytest.fixture(scope="module")
def service(serve: Serve, keys: tuple[Path, str, str]) -> Running:
    return serve(api_keys=keys[0])


def post(service: Running, key: str, seed: int = 0) -> httpx.Response:
    headers = {"Authorization": f"Bearer {key}"}
    return service.client.post(
        "/reconstruct", files=form(encode(make_picture(seed=seed))), headers=headers
    )


def test_only_hashes_are_kept_and_only_their_owner_may_read_them(
    keys: tuple[Path, str, str],
) -> None:
    path, alice, bob = keys
    assert alice not in path.read_text()
    assert bob not in path.read_text()
    assert path.stat().st_mode & 0o077 == 0
    assert len(alice) > 40
    access = Access(path)
    assert (access.client(alice).name, access.client(bob).quota) == ("alice", Quota(per_hour=1))


@pytest.mark.parametrize("token", [None, "", "quantvggt_", "x" * 10_000, "\udcff", "alice"])
def test_any_other_key_is_refused(keys: tuple[Path, str, str], token: str | None) -> None:
    with pytest.raises(KeyRequired):
        Access(keys[0]).client(token)


def test_a_name_has_one_key(keys: tuple[Path, str, str]) -> None:
    with pytest.raises(KeysError, match="already has a key named 'alice'"):
        add_key(keys[0], "alice")


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"keys": []}',
        '{"keys": [{"name": "a"}]}',
        '{"keys": [1]}',
        '{"keys": [{"name": "a", "sha256": "%s", "stored_bytes": "many"}]}' % ("0" * 64),
    ],
)
def test_a_damaged_file_of_keys_refuses_to_start(tmp_path: Path, content: str) -> None:
    (tmp_path / "keys.json").write_text(content)
    with pytest.raises(KeysError):
        Access(tmp_path / "keys.json")


def test_without_a_key_only_public_routes_answer(service: Running) -> None:
    for path in (
        "/livez",
        "/readyz",
        "/metrics",
        "/capabilities",
        "/",
        "/openapi.json",
        "/problems/key-required",
    ):
        assert service.client.get(path).status_code == 200, path
    assert service.client.get("/capabilities").json()["authentication"] == "bearer"
    for answer in (
        service.client.post("/reconstruct", files=form(encode(make_picture()))),
        service.client.get("/reconstructions"),
        service.client.get(f"/reconstructions/{'0' * 32}/points.ply"),
        service.client.delete(f"/reconstructions/{'0' * 32}"),
        service.client.get("/reconstructions", headers={"Authorization": "Basic abc"}),
    ):
        problem(answer, 401, "key-required")
        assert answer.headers["www-authenticate"] == "Bearer"


def test_one_client_sees_nothing_of_another(service: Running, keys: tuple[Path, str, str]) -> None:
    _, alice, bob = keys
    mine = post(service, alice)
    assert mine.status_code == 200
    url = mine.headers["location"]
    as_bob = {"Authorization": f"Bearer {bob}"}
    for path in (
        "",
        "/events",
        "/points.ply",
        "/depth/0.npy",
        "/manifest.json",
        "/everything.zip",
        "/pictures/0.png",
    ):
        problem(service.client.get(url + path, headers=as_bob), 404, "not-found")
    problem(service.client.delete(url, headers=as_bob), 404, "not-found")
    assert service.client.get("/reconstructions", headers=as_bob).json()["reconstructions"] == []
    theirs = post(service, bob)  # the same picture, yet not reused across clients
    assert theirs.json()["id"] != mine.json()["id"]
    as_alice = {"Authorization": f"Bearer {alice}"}
    assert service.client.get(f"{url}/points.ply", headers=as_alice).status_code == 200
    listed = service.client.get("/reconstructions", headers=as_alice).json()["reconstructions"]
    assert [line["id"] for line in listed] == [mine.json()["id"]]


def test_a_quota_is_a_problem_that_says_when_to_come_back(
    service: Running, keys: tuple[Path, str, str]
) -> None:
    answers = [post(service, keys[2], seed) for seed in (1, 2)]
    assert answers[-1].status_code == 429
    assert problem(answers[-1], 429, "quota-exceeded")["per_hour"] == 1
    assert int(answers[-1].headers["retry-after"]) > 0
    assert keys[2] not in json.dumps(answers[-1].json())


def test_keys_are_read_again_when_their_file_changes_and_damage_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.access._LOOK_SECONDS", 0.0)
    path = tmp_path / "keys.json"
    alice = add_key(path, "alice")
    access = Access(path)
    carol = add_key(path, "carol")
    assert access.client(carol).name == "carol"
    whole = path.read_text()
    path.write_text(whole[:20])
    assert access.client(alice).name == "alice"
    path.write_text(json.dumps({"keys": json.loads(whole)["keys"][1:]}))
    with pytest.raises(KeyRequired):
        access.client(alice)
    path.unlink()
    assert access.client(carol).name == "carol"


def test_the_first_start_makes_a_key_and_leaves_it_to_the_owner_alone(
    serve: Serve, tmp_path: Path
) -> None:
    keys, first = tmp_path / "keys.json", tmp_path / "first-key"
    service = serve(api_keys=keys, first_key=first)
    assert first.stat().st_mode & 0o077 == 0
    token = first.read_text().strip()
    assert post(service, token).status_code == 200
    problem(service.client.get("/reconstructions"), 401, "key-required")
    again = serve(api_keys=keys, first_key=first)  # makes no other one
    assert first.read_text().strip() == token
    assert (
        again.client.get(
            "/reconstructions", headers={"Authorization": f"Bearer {token}"}
        ).status_code
        == 200
    )


def test_pictures_of_refused_requests_are_counted_too(serve: Serve, tmp_path: Path) -> None:
    """They were decoded all the same."""
    path = tmp_path / "keys.json"
    headers = {"Authorization": f"Bearer {add_key(path, 'carol', Quota(megapixels_per_hour=1.0))}"}
    service = serve(api_keys=path)
    picture = encode(make_picture(1000, 900), "JPEG")
    wrong = {"cameras": json.dumps([{}, {}])}  # of two pictures
    for status, code in ((422, "invalid-option"), (429, "quota-exceeded")):
        answer = service.client.post(
            "/reconstruct", files=form(picture), data=wrong, headers=headers
        )
        problem(answer, status, code)
    usage = service.client.get("/usage", headers=headers).json()
    assert usage["megapixels_per_hour"] == {"used": 0.9, "limit": 1.0}


def test_deleting_results_and_dry_runs_give_nothing_of_a_quota_back(
    serve: Serve, tmp_path: Path
) -> None:
    path = tmp_path / "keys.json"
    headers = {"Authorization": f"Bearer {add_key(path, 'carol', Quota(per_hour=2))}"}
    service = serve(api_keys=path)
    files = form(encode(make_picture(seed=1)))
    dry = service.client.post("/reconstruct?dry_run=true", files=files, headers=headers)
    assert dry.status_code == 200
    made = service.client.post("/reconstruct", files=files, headers=headers)
    assert made.status_code == 200
    assert service.client.delete(made.headers["location"], headers=headers).status_code == 204
    for query in ("", "?dry_run=true"):
        again = service.client.post(f"/reconstruct{query}", files=files, headers=headers)
        problem(again, 429, "quota-exceeded")


def test_a_key_does_not_hold_all_places_for_uploads(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    greedy, other = add_key(path, "greedy"), add_key(path, "other")
    service = serve(api_keys=path, max_uploads=4)

    def begin(key: str) -> socket.socket:
        """A request whose body does not come."""
        connection = socket.create_connection(("127.0.0.1", service.port))
        head = (
            "POST /reconstruct HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n"
            f"Content-Type: multipart/form-data; boundary=x\r\nAuthorization: Bearer {key}\r\n\r\n"
        )
        connection.sendall(head.encode() + b"--x")
        return connection

    held = []
    for count in (1, 2):
        held.append(begin(greedy))
        wait_until(lambda count=count: service.application._admission.uploads("greedy") == count)
    problem(post(service, greedy, 5), 429, "queue-full")
    assert post(service, other, 6).status_code == 200
    for connection in held:
        connection.close()


def test_a_body_of_any_size_is_not_read_for_whoever_has_no_key(
    service: Running, keys: tuple[Path, str, str]
) -> None:
    read = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal read
        while read < 2**20:
            read += 2**14
            yield b"x" * 2**14

    async def rename(headers: dict[str, str]) -> httpx.Response:
        transport = httpx.ASGITransport(create_app(service.application))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            headers = {"Content-Type": "application/json", **headers}
            return await client.patch("/reconstructions/a", content=body(), headers=headers)

    assert asyncio.run(rename({})).status_code == 401
    assert read < 2**17
    read = 0
    alice = {"Authorization": f"Bearer {keys[1]}"}
    problem(asyncio.run(rename(alice)), 413, "too-many-bytes")
    assert read < 2**17
