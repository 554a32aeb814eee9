from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import httpx
import pytest
import trustme
from starlette.requests import Request

from service.errors import TooManyBytes
from service.inputs.body import Body, receive
from service.settings import Limits
from tests.service.inputs.remote.origin import Origin, plain
from tests.service.inputs.test_archive import archive
from tests.service.inputs.test_video import video
from tests.service.pictures import encode, make_picture
from tests.service.running import Running, Serve, problem

PICTURES = [encode(make_picture(seed=seed)) for seed in range(4)]


@pytest.fixture(scope="module")
def origin(certificates: trustme.CA) -> Iterator[Origin]:
    origin = Origin(certificates)
    origin.answers |= {f"/{i}.png": plain(picture) for i, picture in enumerate(PICTURES)}
    yield origin
    origin.stop()


@pytest.fixture(scope="module")
def service(serve: Serve, origin: Origin) -> Running:
    """A service that may fetch from `origin`."""
    return serve(
        fetch_urls=True,
        fetch_hosts=origin.url(""),
        max_images=6,
        max_total_bytes=200_000,
        upload_timeout=2,
    )


def post(
    service: Running, *parts: str | bytes | tuple[str, bytes], **fields: Any
) -> httpx.Response:
    """A form of URLs (text), pictures (bytes, named after their place) and other files (field and
    content)."""
    sent: list[tuple[str, Any]] = []
    for place, part in enumerate(parts):
        if isinstance(part, str):
            sent.append(("urls", (None, part)))
        elif isinstance(part, bytes):
            sent.append(("images", (f"sent-{place}.png", part)))
        else:
            sent.append((part[0], (part[0], part[1])))
    return service.client.post("/reconstruct", files=sent, data={"dry_run": "true", **fields})


def names(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [picture["filename"] for picture in answer.json()["pictures"]]


def test_urls_and_files_make_one_scene_in_the_order_of_the_form(
    service: Running, origin: Origin
) -> None:
    answer = post(
        service,
        origin.url("/1.png"),
        PICTURES[0],
        origin.url("/0.png"),
        PICTURES[3],
        dry_run="false",
    )
    assert names(answer) == ["1.png", "sent-1.png", "0.png", "sent-3.png"]
    again = post(
        service, PICTURES[1], PICTURES[0], PICTURES[0], PICTURES[3], dry_run="false"
    ).json()
    for fetched, sent in zip(answer.json()["pictures"], again["pictures"], strict=True):
        assert fetched["extrinsic"] == sent["extrinsic"]


def test_what_comes_is_judged_by_its_first_bytes_like_a_file_that_is_sent(
    service: Running, origin: Origin
) -> None:
    origin.answers |= {
        "/scene": plain(
            archive(("2.png", PICTURES[2]), ("1.png", PICTURES[1])).file.read(),
            Content_Type="text/html",
        ),
        "/film.jpg": plain(video(seconds=2).file.read()),
        "/a.heic": plain(encode(make_picture(), "HEIF")),
        "/page.png": plain(b"<!doctype html>"),
    }
    answer = post(
        service,
        origin.url("/scene"),
        origin.url("/film.jpg"),
        origin.url("/a.heic"),
        dry_run="false",
    )
    assert names(answer) == [
        "1.png",
        "2.png",
        "film-00000.000s.png",
        "film-00001.000s.png",
        "a.heic",
    ]
    problem(post(service, origin.url("/page.png")), 415, "unsupported-picture")


def test_names_of_urls_are_known_to_manifest_and_masks(service: Running, origin: Origin) -> None:
    manifest = json.dumps(["2.png", "0.png"])
    urls = [origin.url(f"/{i}.png") for i in range(3)]
    assert names(post(service, *urls, manifest=manifest, dry_run="false")) == ["2.png", "0.png"]
    wrong = ("masks", encode(make_picture(7, 7)))
    assert "mask" in problem(post(service, urls[0], wrong), 422, "invalid-option")["detail"]


def test_a_service_that_was_not_told_to_fetches_nothing_and_says_so(
    serve: Serve, origin: Origin
) -> None:
    service = serve()
    assert service.client.get("/capabilities").json()["urls"] == "off"
    before = len(origin.requests)
    problem(post(service, PICTURES[0], origin.url("/1.png")), 422, "urls-off")
    assert len(origin.requests) == before
    assert "/capabilities" in service.client.get("/problems/urls-off").json()["meaning"]


def test_capabilities_say_that_hosts_are_listed_but_not_which(
    service: Running, origin: Origin
) -> None:
    capabilities = service.client.get("/capabilities")
    assert capabilities.json()["urls"] == "listed hosts"
    assert str(origin.port) not in capabilities.text


def test_a_url_that_is_refused_or_gives_nothing_is_named_by_its_place(
    service: Running, origin: Origin
) -> None:
    for url in ("https://images.example.org/a.png", "https://10.0.0.1/", "http://[", "", "\x00"):
        assert problem(post(service, PICTURES[0], url), 422, "url-refused")["index"] == 1
    assert (
        problem(post(service, origin.url("/0.png"), origin.url("/none.png")), 424, "fetch-failed")[
            "index"
        ]
        == 1
    )
    assert service.metric('quantvggt_rejected_total{reason="fetch-failed"}') == 1


def test_urls_count_as_pictures_and_their_bytes_as_the_requests(
    service: Running, origin: Origin
) -> None:
    before = len(origin.requests)
    problem(
        post(service, *[origin.url("/0.png")] * 4, *[PICTURES[0]] * 3), 413, "too-many-pictures"
    )
    assert len(origin.requests) == before
    origin.answers["/large"] = plain(bytes(150_000))
    problem(post(service, origin.url("/large"), bytes(60_000)), 413, "too-many-bytes")


def slow(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        for _ in range(1000):
            connection.sendall(b"x")
            time.sleep(0.02)


def test_a_server_that_drips_has_no_longer_than_an_upload(service: Running, origin: Origin) -> None:
    origin.answers["/slow"] = slow
    began = time.monotonic()
    assert (
        "2 seconds" in problem(post(service, origin.url("/slow")), 408, "upload-timeout")["detail"]
    )
    assert time.monotonic() - began < 10
    assert names(post(service, origin.url("/0.png"), dry_run="false")) == ["0.png"]


def test_when_the_client_leaves_nothing_is_fetched_any_more(serve: Serve, origin: Origin) -> None:
    service = serve(fetch_urls=True, fetch_hosts=origin.url(""))
    begun, ended = threading.Event(), threading.Event()

    def watched(connection: socket.socket) -> None:
        begun.set()
        slow(connection)
        ended.set()

    origin.answers["/watched"] = watched
    request = httpx.Request(
        "POST",
        f"http://127.0.0.1:{service.port}/reconstruct",
        files=[("urls", (None, origin.url("/watched")))],
    )
    head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
    with socket.create_connection(("127.0.0.1", service.port)) as client:
        client.sendall(f"POST /reconstruct HTTP/1.1\r\n{head}\r\n".encode() + request.read())
        assert begun.wait(10)
    assert ended.wait(10)  # of the 20 seconds that it would have taken
    assert service.metric('quantvggt_requests_total{outcome="disconnected"}') == 1


def test_texts_are_bounded_together_before_they_are_held() -> None:
    """Each is small enough, and the body may have 10 GB."""
    text = (
        b'--x\r\nContent-Disposition: form-data; name="urls"\r\n\r\n' + b"u" * (2**20 - 1) + b"\r\n"
    )
    read = 0

    async def receive_text() -> dict[str, Any]:
        nonlocal read
        read += len(text)
        return {"type": "http.request", "body": text, "more_body": read < 40 * len(text)}

    async def parse() -> None:
        headers = [(b"content-type", b"multipart/form-data; boundary=x")]
        request = Request({"type": "http", "headers": headers}, receive_text)
        async with receive(Body(request), Limits()):
            raise AssertionError("it was taken")

    with pytest.raises(TooManyBytes, match="URLs and options"):
        asyncio.run(parse())
    assert read < 20 * 2**20
