"""Names that change their mind, and the addresses that are dialled for them."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterator
from typing import Any

import anyio
import httpcore
import pytest

from service.inputs.remote.hosts import Hosts
from service.inputs.remote.network import CheckedNetwork

PUBLIC, PRIVATE = "93.184.216.34", "10.0.0.1"


class Dial(httpcore.AsyncNetworkBackend):
    """Notes whom it is asked to connect to; addresses in `dead` do not answer."""

    def __init__(self, *dead: str) -> None:
        self.dialled: list[str] = []
        self.dead = dead

    async def connect_tcp(
        self, host: str, port: int, *rest: Any, **options: Any
    ) -> httpcore.AsyncNetworkStream:
        self.dialled.append(host)
        if host in self.dead:
            raise httpcore.ConnectError("refused")
        return httpcore.AsyncMockStream([])


def connect(
    network: CheckedNetwork, host: str = "images.example.org", port: int = 443, timeout: float = 5
) -> None:
    asyncio.run(network.connect_tcp(host, port, timeout))


def answering(*answers: list[str] | Exception) -> tuple[Any, list[str]]:
    """A resolver that gives one answer after the other, and the names it was asked."""
    asked: list[str] = []
    rest: Iterator[list[str] | Exception] = iter(answers)

    async def resolve(host: str, port: int) -> list[str]:
        asked.append(host)
        answer = next(rest)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return resolve, asked


def test_a_name_is_resolved_once_and_the_address_that_was_checked_is_dialled() -> None:
    """DNS rebinding: the second answer of the attacker's name server leads inwards, and nobody asks
    for it."""
    resolve, asked = answering([PUBLIC], [PRIVATE])
    dial = Dial()
    connect(CheckedNetwork(Hosts(), resolve, dial))
    assert (asked, dial.dialled) == (["images.example.org"], [PUBLIC])


@pytest.mark.parametrize(
    "addresses", [[PRIVATE], [PUBLIC, PRIVATE], ["::1"], ["fe80::1%eth0"], ["169.254.169.254"], []]
)
def test_a_name_with_an_address_that_is_not_public_is_not_dialled_at_all(
    addresses: list[str],
) -> None:
    resolve, _ = answering(addresses)
    dial = Dial()
    with pytest.raises(httpcore.ConnectError):
        connect(CheckedNetwork(Hosts(), resolve, dial))
    assert dial.dialled == []


def test_only_a_listed_host_and_port_may_be_internal() -> None:
    hosts, dial = Hosts("http://minio:9000"), Dial()
    resolve, _ = answering([PRIVATE], [PRIVATE], ["169.254.169.254"])
    network = CheckedNetwork(hosts, resolve, dial)
    connect(network, "minio", 9000)
    for port in (9001, 9000):  # not listed; listed, but its name leads to the metadata service
        with pytest.raises(httpcore.ConnectError):
            connect(network, "minio", port)
    assert dial.dialled == [PRIVATE]


def test_the_next_address_is_tried_where_one_does_not_answer() -> None:
    resolve, _ = answering(["2606:4700::1111", PUBLIC])
    dial = Dial("2606:4700::1111")
    connect(CheckedNetwork(Hosts(), resolve, dial))
    assert dial.dialled == ["2606:4700::1111", PUBLIC]


@pytest.mark.parametrize("error", [OSError("no such name"), UnicodeError("label too long")])
def test_a_name_that_is_not_there_is_an_error_like_any_other(error: Exception) -> None:
    resolve, _ = answering(error)
    with pytest.raises(httpcore.ConnectError):
        connect(CheckedNetwork(Hosts(), resolve, Dial()))


def test_a_name_server_that_does_not_answer_is_not_waited_for() -> None:
    async def resolve(host: str, port: int) -> list[str]:
        await asyncio.sleep(60)
        return [PUBLIC]

    with pytest.raises(httpcore.ConnectTimeout):
        connect(CheckedNetwork(Hosts(), resolve, Dial()), timeout=0.05)


def test_the_systems_resolver_is_asked_by_default() -> None:
    dial = Dial()
    connect(CheckedNetwork(Hosts("localhost"), dial=dial), "localhost")
    assert set(dial.dialled) <= {"127.0.0.1", "::1"}
    with pytest.raises(httpcore.ConnectError, match="leads to"):
        connect(CheckedNetwork(Hosts(), dial=dial), "localhost")


def test_a_connection_that_is_given_up_while_its_encryption_begins_is_closed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def see_it_end() -> bytes:
            with listener.accept()[0] as connection:
                connection.settimeout(5)
                while received := connection.recv(65536):
                    greeting = received
            return greeting

        async def give_up() -> bytes:
            stream = await CheckedNetwork(Hosts(f"127.0.0.1:{port}")).connect_tcp(
                "127.0.0.1", port, 5
            )
            with anyio.move_on_after(0.1):
                await stream.start_tls(ssl.create_default_context(), "127.0.0.1", 5)
            return await asyncio.to_thread(see_it_end)

        assert asyncio.run(give_up()).startswith(b"\x16\x03")  # what TLS begins with
