from __future__ import annotations

import hashlib
from pathlib import Path

import httpx
import pytest
from starlette.datastructures import Headers

from service.errors import NotFound
from service.http.protocol.downloads import Download
from service.result.file import MadeFile
from tests.service.pictures import encode, form, make_picture
from tests.service.running import Running, Serve, problem


@pytest.fixture(scope="module")
def service(serve: Serve) -> Running:
    return serve()


@pytest.fixture(scope="module")
def url(service: Running) -> str:
    answer = service.client.post("/reconstruct", files=form(encode(make_picture())))
    return str(answer.json()["links"]["points"])


@pytest.fixture(scope="module")
def whole(service: Running, url: str) -> httpx.Response:
    return service.client.get(url)


def test_a_file_has_a_strong_validator_a_length_and_a_digest(whole: httpx.Response) -> None:
    digest = hashlib.sha256(whole.content)
    assert whole.headers["etag"] == f'"{digest.hexdigest()}"'
    assert int(whole.headers["content-length"]) == len(whole.content)
    assert whole.headers["accept-ranges"] == "bytes"
    assert whole.headers["content-disposition"] == 'attachment; filename="points.ply"'
    assert whole.headers["repr-digest"].startswith("sha-256=:")
    assert "immutable" in whole.headers["cache-control"]


def test_a_client_that_has_the_file_is_not_sent_it_again(
    service: Running, url: str, whole: httpx.Response
) -> None:
    etag = whole.headers["etag"]
    for known in (etag, f"W/{etag}", f'"x", {etag}', "*"):
        answer = service.client.get(url, headers={"If-None-Match": known})
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", etag)
    assert service.client.get(url, headers={"If-None-Match": '"x"'}).status_code == 200


@pytest.mark.parametrize(
    ("header", "first", "last"),
    [
        ("bytes=0-9", 0, 9),
        ("bytes=10-", 10, None),
        ("bytes=-7", -7, None),
        ("Bytes = 5-5", 5, 5),
        ("bytes=3-99999999", 3, None),
    ],
)
def test_a_range_is_exactly_that(
    service: Running, url: str, whole: httpx.Response, header: str, first: int, last: int | None
) -> None:
    answer = service.client.get(url, headers={"Range": header})
    expected = whole.content[first : None if last is None else last + 1]
    assert answer.status_code == 206
    assert answer.content == expected
    size = len(whole.content)
    start = first % size
    assert answer.headers["content-range"] == f"bytes {start}-{start + len(expected) - 1}/{size}"


@pytest.mark.parametrize(
    "header", ["bytes=9-5", "bytes=a-b", "bytes=", "items=0-1", "bytes=0-1,4-5", "bytes=--1"]
)
def test_a_range_that_is_none_is_ignored(
    service: Running, url: str, whole: httpx.Response, header: str
) -> None:
    answer = service.client.get(url, headers={"Range": header})
    assert (answer.status_code, answer.content) == (200, whole.content)


def test_a_range_beyond_the_end_is_a_problem_that_tells_the_size(
    service: Running, url: str, whole: httpx.Response
) -> None:
    for header in (f"bytes={len(whole.content)}-", "bytes=-0"):
        answer = service.client.get(url, headers={"Range": header})
        problem(answer, 416, "range-not-satisfiable")
        assert answer.headers["content-range"] == f"bytes */{len(whole.content)}"


def test_a_range_of_an_older_version_gets_the_whole_file(
    service: Running, url: str, whole: httpx.Response
) -> None:
    ranged = {"Range": "bytes=0-9"}
    assert (
        service.client.get(url, headers={**ranged, "If-Range": whole.headers["etag"]}).status_code
        == 206
    )
    for stale in ('"old"', f"W/{whole.headers['etag']}", "Wed, 21 Oct 2015 07:28:00 GMT"):
        assert (
            service.client.get(url, headers={**ranged, "If-Range": stale}).content == whole.content
        )


def test_head_is_get_without_the_body(service: Running, url: str, whole: httpx.Response) -> None:
    answer = service.client.head(url, headers={"Range": "bytes=0-9"})
    assert (answer.status_code, answer.content) == (200, b"")
    for name in ("etag", "content-length", "content-type", "accept-ranges"):
        assert answer.headers[name] == whole.headers[name]


def test_a_broken_download_can_be_resumed_byte_for_byte(
    service: Running, url: str, whole: httpx.Response
) -> None:
    first = service.client.get(url, headers={"Range": "bytes=0-4999"})
    rest = service.client.get(
        url, headers={"Range": "bytes=5000-", "If-Range": first.headers["etag"]}
    )
    assert first.content + rest.content == whole.content


def test_other_options_give_another_file_without_another_run(
    service: Running, url: str, whole: httpx.Response
) -> None:
    before = service.metric('quantvggt_stage_seconds_count{stage="aggregator"}')
    answers = [
        service.client.get(url, params=params)
        for params in (
            {"confidence": 60},
            {"max_points": 10},
            {"voxel_size": 0.5},
            {"format": "ascii"},
        )
    ]
    assert len({answer.headers["etag"] for answer in (*answers, whole)}) == 5
    assert service.metric('quantvggt_stage_seconds_count{stage="aggregator"}') == before


def test_a_file_that_went_since_it_was_looked_up_is_gone(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        Download(
            Headers(),
            MadeFile(tmp_path / "gone.ply", 1, "0" * 64),
            "application/octet-stream",
            "gone.ply",
        )
