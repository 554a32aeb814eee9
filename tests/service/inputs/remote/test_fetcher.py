"""Fetching from true HTTPS servers on this machine, well-behaved and hostile. Where a test needs a
public server, only the last step, dialling its address, is led to one of ours."""

from __future__ import annotations

import asyncio
import gzip
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, BinaryIO

import httpcore
import pytest
import trustme
from starlette.datastructures import UploadFile

import service.inputs.remote.fetcher as module
from service.errors import FetchFailed, ServiceError, TooManyBytes, URLRefused
from service.inputs.remote.batch import AT_ONCE
from service.inputs.remote.fetcher import Fetcher
from service.inputs.remote.hosts import Hosts
from service.inputs.remote.network import CheckedNetwork
from service.settings import AccessSettings, Limits
from tests.service.inputs.remote.origin import Answer, Origin, plain, redirect
from tests.service.pictures import encode, make_picture

NAME, PUBLIC = "images.example.org", "93.184.216.34"
PICTURE = encode(make_picture())
ARCHIVE = b"PK\x03\x04" + bytes(5000)


@pytest.fixture
def origin(certificates: trustme.CA) -> Iterator[Origin]:
    """A host that the operator listed."""
    origin = Origin(certificates)
    yield origin
    origin.stop()


@pytest.fixture
def public(certificates: trustme.CA) -> Iterator[Origin]:
    """A host whose certificate and name are a public one's."""
    origin = Origin(certificates, NAME)
    yield origin
    origin.stop()


@pytest.fixture
def spools(monkeypatch: pytest.MonkeyPatch) -> list[BinaryIO]:
    """The files that fetched bytes go into, as they are made."""
    made: list[BinaryIO] = []
    spool = module._spool
    monkeypatch.setattr(module, "_spool", lambda: made.append(spool()) or made[-1])
    return made


class Internet(httpcore.AsyncNetworkBackend):
    """Leads every address to a server of the test, and notes the addresses."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.dialled: list[tuple[str, int]] = []

    async def connect_tcp(
        self, host: str, port: int, *rest: Any, **options: Any
    ) -> httpcore.AsyncNetworkStream:
        self.dialled.append((host, port))
        return await httpcore.AnyIOBackend().connect_tcp("127.0.0.1", self.port, *rest, **options)


LIMITS = Limits(max_image_bytes=40_000, max_total_bytes=100_000)


def access(**options: Any) -> AccessSettings:
    return AccessSettings(**{"fetch_urls": True, "fetch_timeout": 2.0, **options})


def listing(origin: Origin, limits: Limits = LIMITS, **options: Any) -> Fetcher:
    """A fetcher whose operator listed `origin`."""
    return Fetcher(access(fetch_hosts=origin.url(""), **options), limits)


def roaming(origin: Origin, **names: list[str]) -> tuple[Fetcher, Internet]:
    """A fetcher without a list, in an internet where every public address is `origin`."""

    async def resolve(host: str, port: int) -> list[str]:
        if host not in names and host != NAME:
            raise OSError("no such name")
        return names.get(host, [PUBLIC])

    internet = Internet(origin.port)
    return Fetcher(access(), LIMITS, CheckedNetwork(Hosts(), resolve, internet)), internet


def fetch(fetcher: Fetcher, *urls: str, spent: int = 0) -> list[UploadFile]:
    files = asyncio.run(fetcher.fetch(dict(enumerate(urls)), spent))
    return [files[place] for place in range(len(urls))]


def refused(fetcher: Fetcher, url: str, kind: type[ServiceError], spent: int = 0) -> ServiceError:
    with pytest.raises(kind) as caught:
        fetch(fetcher, url, spent=spent)
    return caught.value


def content(file: UploadFile) -> bytes:
    with file.file:
        return file.file.read()


def test_what_urls_name_is_fetched_in_their_order_under_their_names(origin: Origin) -> None:
    origin.answers |= {"/a/left.png?width=9": plain(PICTURE), "/b%20c.png": plain(b"other")}
    files = fetch(listing(origin), origin.url("/a/left.png?width=9"), origin.url("/b%20c.png"))
    assert [file.filename for file in files] == ["/a/left.png", "/b c.png"]
    assert [content(file) for file in files] == [PICTURE, b"other"]


class Crowd:
    """Answers with the path, each only when `most` are waiting for an answer; notes how many ever
    were."""

    def __init__(self, most: int) -> None:
        self.waiting = self.seen = 0
        self._barrier = threading.Barrier(most, timeout=10)
        self._lock = threading.Lock()

    def answer(self, body: bytes) -> Answer:
        def answered(connection: socket.socket) -> None:
            with self._lock:
                self.waiting += 1
                self.seen = max(self.seen, self.waiting)
            self._barrier.wait()
            with self._lock:
                self.waiting -= 1
            connection.sendall(plain(body))

        return answered


def test_a_few_are_fetched_at_a_time_and_stay_in_order(origin: Origin) -> None:
    crowd, places = Crowd(AT_ONCE), range(3 * AT_ONCE)
    origin.answers |= {f"/{i}": crowd.answer(b"%d" % i) for i in places}
    files = fetch(listing(origin, fetch_timeout=20.0), *(origin.url(f"/{i}") for i in places))
    assert [content(file) for file in files] == [b"%d" % i for i in places]
    assert crowd.seen == AT_ONCE


def test_the_first_picture_at_fault_is_named_even_if_a_later_one_fails_before_it(
    origin: Origin,
) -> None:
    failed = threading.Event()

    def missing(connection: socket.socket) -> None:
        connection.sendall(plain(b"", "404 Not Found"))
        failed.set()

    def refusing(connection: socket.socket) -> None:
        assert failed.wait(10)
        time.sleep(0.1)
        connection.sendall(plain(bytes(50_000)))

    origin.answers |= {"/0": plain(b"0"), "/1": refusing, "/2": missing}
    with pytest.raises(TooManyBytes) as caught:
        fetch(listing(origin, fetch_timeout=20.0), *(origin.url(f"/{i}") for i in range(3)))
    assert caught.value.fields["index"] == 1


def test_one_that_fails_ends_those_after_it_at_once_and_nothing_stays_open(
    origin: Origin, spools: list[BinaryIO]
) -> None:
    asked, left = threading.Event(), threading.Event()

    def kept_waiting(connection: socket.socket) -> None:
        asked.set()
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf")
        with suppress(OSError):
            connection.recv(1)  # returns when the other end is closed
        left.set()

    def missing(connection: socket.socket) -> None:
        assert asked.wait(10)
        connection.sendall(plain(b"", "404 Not Found"))

    origin.answers |= {"/0": plain(PICTURE), "/1": missing, "/2": kept_waiting}
    urls = [origin.url(f"/{min(i, 2)}") for i in range(9)]

    async def patient() -> None:
        await asyncio.wait_for(
            listing(origin, fetch_timeout=600.0).fetch(dict(enumerate(urls)), 0), 10
        )

    with pytest.raises(FetchFailed) as caught:
        asyncio.run(patient())
    assert caught.value.fields == {"index": 1}
    assert left.wait(10)
    assert [file.closed for file in spools] == 9 * [True]
    assert len(origin.requests) <= 2 + AT_ONCE


def test_a_request_says_little_and_carries_nothing_over(
    origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    origin.answers |= {"/1": plain(b"1", Set_Cookie="a=b"), "/2": plain(b"2")}
    for file in fetch(listing(origin), origin.url("/1"), origin.url("/2")):
        file.file.close()
    for head in origin.requests:
        names = {line.partition(b":")[0].lower() for line in head.split(b"\r\n")[1:] if line}
        assert names == {b"host", b"accept", b"accept-encoding", b"user-agent"}
        assert b"Accept-Encoding: identity" in head
        assert f"Host: 127.0.0.1:{origin.port}".encode() in head


def test_a_public_server_is_dialled_by_its_checked_address_under_its_own_name(
    public: Origin,
) -> None:
    fetcher, internet = roaming(public)
    public.answers["/a.png"] = plain(PICTURE)
    (file,) = fetch(fetcher, f"https://{NAME}/a.png")
    assert content(file) == PICTURE
    assert internet.dialled == [(PUBLIC, 443)]
    assert f"Host: {NAME}\r\n".encode() in public.requests[0]


def test_a_server_whose_certificate_is_another_ones_gives_nothing(origin: Origin) -> None:
    fetcher, _ = roaming(origin)  # its certificate is for 127.0.0.1
    origin.answers["/a.png"] = plain(PICTURE)
    refused(fetcher, f"https://{NAME}/a.png", FetchFailed)
    assert origin.requests == []


def test_plain_http_is_spoken_where_the_list_says_so() -> None:
    origin = Origin()
    origin.answers["/a.png"] = plain(PICTURE)
    (file,) = fetch(listing(origin), origin.url("/a.png"))
    assert content(file) == PICTURE
    origin.stop()


def test_redirects_are_followed_a_few_times(origin: Origin) -> None:
    origin.answers |= {f"/{i}": redirect(f"/{i + 1}") for i in range(9)}
    origin.answers |= {"/near": redirect("deep/../found.png"), "/found.png": plain(PICTURE)}
    (file,) = fetch(listing(origin), origin.url("/near"))
    assert (file.filename, content(file)) == ("/near", PICTURE)
    origin.requests.clear()
    refused(listing(origin), origin.url("/0"), FetchFailed)
    assert len(origin.requests) == 4


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("https://10.0.0.1/", "public"),
        ("https://169.254.169.254/latest/meta-data/", "public"),
        ("https://[::ffff:127.0.0.1]/", "public"),
        ("https://2130706433/", "oddly"),
        ("https://images.example.org:8080/", "port"),
        ("https://user:secret@images.example.org/", "user name"),
        ("http://images.example.org/a.png", "gives up https"),
        ("file:///etc/passwd", "https"),
        ("https://[", "no name"),
        ("https://[zz]/", "not a URL"),
    ],
)
def test_a_redirect_is_checked_like_the_url_that_was_sent(
    public: Origin, location: str, words: str
) -> None:
    fetcher, internet = roaming(public)
    public.answers["/a.png"] = redirect(location)
    problem = refused(fetcher, f"https://{NAME}/a.png", URLRefused)
    assert "redirects to a URL" in problem.message
    assert words in problem.message
    assert problem.fields == {"index": 0}
    assert internet.dialled == [(PUBLIC, 443)]


def test_a_redirect_to_a_name_that_leads_inwards_is_not_followed(public: Origin) -> None:
    fetcher, internet = roaming(public, **{"inside.example.org": ["10.0.0.1"]})
    public.answers["/a.png"] = redirect("https://inside.example.org/")
    refused(fetcher, f"https://{NAME}/a.png", FetchFailed)
    assert internet.dialled == [(PUBLIC, 443)]


def test_names_that_lead_inwards_or_nowhere_and_servers_that_are_closed_are_told_apart_by_nobody(
    public: Origin,
) -> None:
    fetcher, _ = roaming(
        public, **{"inside.example.org": ["10.0.0.1"], "both.example.org": [PUBLIC, "::1"]}
    )
    public.stop()
    hosts = ("inside.example.org", "both.example.org", "nowhere.example.org", NAME)
    told = {refused(fetcher, f"https://{host}/a.png", FetchFailed).message for host in hosts}
    assert len(told) == 1


def test_of_a_listed_host_the_client_learns_nothing_but_that_it_gave_nothing(
    origin: Origin,
) -> None:
    origin.answers |= {"/403": plain(b"", "403 Forbidden"), "/odd": b"SSH-2.0-OpenSSH\r\n"}
    fetcher = listing(origin)
    told = {
        refused(fetcher, origin.url(path), FetchFailed).message for path in ("/403", "/404", "/odd")
    }
    origin.stop()
    told.add(refused(fetcher, origin.url("/"), FetchFailed).message)
    assert len(told) == 1
    assert str(origin.port) not in told.pop()


def test_of_a_public_server_the_client_learns_its_status(public: Origin) -> None:
    fetcher, _ = roaming(public)
    assert "404" in refused(fetcher, f"https://{NAME}/a.png", FetchFailed).message


def drip(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        for _ in range(100):
            connection.sendall(b"x")
            time.sleep(0.05)


def endless(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            connection.sendall(b"8000\r\n" + bytes(0x8000) + b"\r\n")


def silent(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.recv(1)


def stalled(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf")
        connection.recv(1)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\nshort",
            FetchFailed,
            id="length too large",
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n",
            TooManyBytes,
            id="length beyond limit",
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", FetchFailed, id="length negative"
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
            FetchFailed,
            id="two lengths",
        ),
        pytest.param(endless, TooManyBytes, id="endless body"),
        pytest.param(
            lambda c: c.sendall(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000),
            FetchFailed,
            id="endless head",
        ),
        pytest.param(
            lambda c: [c.sendall(b"HTTP/1.1 100 Go\r\n\r\n") for _ in range(9999)],
            FetchFailed,
            id="endless 100",
        ),
        pytest.param(
            plain(gzip.compress(bytes(10_000_000)), Content_Encoding="gzip"),
            FetchFailed,
            id="gzip bomb",
        ),
        pytest.param(plain(b"", "204 No Content"), FetchFailed, id="no content"),
        pytest.param(plain(PICTURE, "206 Partial Content"), FetchFailed, id="a part only"),
        pytest.param(b"\x00" * 10_000, FetchFailed, id="not HTTP"),
        pytest.param(b"", FetchFailed, id="nothing"),
        pytest.param(silent, FetchFailed, id="silence"),
        pytest.param(stalled, FetchFailed, id="stall in mid-body"),
    ],
)
def test_a_hostile_server_is_an_error_in_bounded_time(
    origin: Origin, answer: Answer, kind: type[ServiceError]
) -> None:
    origin.answers["/a.png"] = answer
    refused(listing(origin, fetch_timeout=0.3), origin.url("/a.png"), kind)


def test_a_body_longer_than_its_length_is_cut_there(origin: Origin) -> None:
    origin.answers["/a.png"] = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n" + PICTURE
    (file,) = fetch(listing(origin), origin.url("/a.png"))
    assert content(file) == PICTURE[:4]


def test_a_picture_has_a_pictures_limit_and_a_container_that_of_the_request(origin: Origin) -> None:
    origin.answers |= {
        "/a.png": plain(PICTURE + bytes(41_000)),
        "/a.zip": plain(ARCHIVE + bytes(90_000)),
    }
    assert (
        refused(listing(origin), origin.url("/a.png"), TooManyBytes).fields["max_image_bytes"]
        == 40_000
    )
    (file,) = fetch(listing(origin), origin.url("/a.zip"))
    assert content(file) == ARCHIVE + bytes(90_000)


def test_all_urls_and_the_body_share_one_limit(origin: Origin) -> None:
    origin.answers |= {"/a": plain(bytes(30_000)), "/endless": endless}
    fetcher = listing(origin)
    for file in fetch(fetcher, *3 * [origin.url("/a")], spent=10_000):
        file.file.close()
    for path in ("/a", "/endless"):
        assert refused(fetcher, origin.url(path), TooManyBytes, spent=70_001).fields == {
            "max_total_bytes": 100_000
        }
    with pytest.raises(TooManyBytes):
        fetch(fetcher, *4 * [origin.url("/a")])


def test_a_drip_ends_when_its_reader_is_cancelled_and_nothing_stays_open(
    origin: Origin, spools: list[BinaryIO]
) -> None:
    ended = threading.Event()

    def watched(connection: socket.socket) -> None:
        drip(connection)
        ended.set()

    origin.answers |= {"/a.png": plain(PICTURE), "/b.png": watched}
    fetcher = listing(origin)

    async def impatient() -> None:
        await asyncio.wait_for(
            fetcher.fetch({0: origin.url("/a.png"), 1: origin.url("/b.png")}, 0), 0.3
        )

    with pytest.raises(asyncio.TimeoutError):
        asyncio.run(impatient())
    assert [file.closed for file in spools] == [True, True]
    assert ended.wait(4)  # less than the 5 seconds that it would have gone on
