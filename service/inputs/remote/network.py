"""Connections whose addresses were checked: a name is resolved once, and what was checked is what
is connected to."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from typing import Any

import anyio
import httpcore

from service.inputs.remote.addresses import Address, is_internal, is_public
from service.inputs.remote.hosts import Hosts

Resolve = Callable[[str, int], Awaitable[list[str]]]
"""The addresses of a name, as text, best first. Raises OSError or UnicodeError."""

_MOST_ADDRESSES = 4  # of one name that are tried


class CheckedNetwork(httpcore.AsyncNetworkBackend):
    """What httpcore connects through. A name with one address that is not public is refused whole.

    Why a connection failed is for the log: towards the client a name that leads inwards, one that
    leads nowhere, and one that does not answer are the same.
    """

    def __init__(
        self,
        hosts: Hosts,
        resolve: Resolve | None = None,
        dial: httpcore.AsyncNetworkBackend | None = None,
    ) -> None:
        self._hosts = hosts
        self._resolve = resolve or _Names().resolve
        self._dial = dial or httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Raises httpcore.ConnectError or ConnectTimeout; `timeout` covers the name and each
        address."""
        try:
            with anyio.fail_after(timeout):
                addresses = await self._checked(host, port)
        except TimeoutError:
            raise httpcore.ConnectTimeout("its name was not resolved in time") from None
        rest = (port, timeout, local_address, socket_options)
        for address in addresses[:-1]:
            try:
                return _Stream(await self._dial.connect_tcp(str(address), *rest))
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue
        return _Stream(await self._dial.connect_tcp(str(addresses[-1]), *rest))

    async def _checked(self, host: str, port: int) -> list[Address]:
        try:
            found = [ip_address(text) for text in await self._resolve(host, port)]
        except (OSError, ValueError) as error:
            raise httpcore.ConnectError(f"its name is not resolved: {error}") from None
        internal = self._hosts.may_be_internal(host, port)
        refused = [
            address
            for address in found
            if not (is_public(address) or (internal and is_internal(address)))
        ]
        if refused or not found:
            raise httpcore.ConnectError(
                f"its name leads to {', '.join(map(str, refused)) or 'no address'}"
            )
        return found[:_MOST_ADDRESSES]


class _Stream(httpcore.AsyncNetworkStream):
    """A connection that is closed if it is given up before it is encrypted, which nobody in
    httpcore sees to."""

    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self._stream = stream

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return await self._stream.read(max_bytes, timeout)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.AsyncNetworkStream:
        try:
            return await self._stream.start_tls(ssl_context, server_hostname, timeout)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self._stream.aclose()
            raise

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class _Names:
    """The system's resolver, on threads of its own: a slow name server delays other names, and
    nothing else."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="names")

    async def resolve(self, host: str, port: int) -> list[str]:
        def look_up() -> list[str]:
            return [
                str(found[4][0])
                for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            ]

        return await asyncio.get_running_loop().run_in_executor(self._threads, look_up)
