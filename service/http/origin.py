"""Which web pages may speak to the service from a browser: its own.

A page of another site can send requests to a service on the visitor's own machine or network, and
its scripts may even read the answers once its name is made to point there. So what a browser marks
as coming from another site is refused, and a service that listens on this machine only answers to
the names of this machine only. Programs send none of these headers and notice nothing.

https://www.w3.org/TR/fetch-metadata/ and RFC 9110, sections 7.2 and 7.4.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from service.errors import CrossSite, ServiceError, UnknownHost
from service.http.protocol.problems import refuse

_OWN = ("same-origin", "none")  # "none": typed into the browser, or a bookmark
_PROBES = ("/livez", "/readyz")


class OwnPagesOnly:
    """ASGI middleware that refuses requests of other sites' pages, and of unknown names.

    `hosts` are the names that it is called by, None for any; `origins` are other sites, such as
    ``https://site.example``, whose pages may speak to it.
    """

    def __init__(
        self, app: ASGIApp, hosts: Collection[str] | None, origins: Collection[str] = ()
    ) -> None:
        self._app = app
        self._hosts = None if hosts is None else {host.lower() for host in hosts}
        self._origins = {origin.rstrip("/").lower() for origin in origins}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            problem = self._unknown_host(scope, headers) or self._cross_site(scope, headers)
            if problem is not None:
                await refuse(problem)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _unknown_host(self, scope: Scope, headers: Headers) -> ServiceError | None:
        given = headers.get("host")
        if self._hosts is None or given is None or scope["path"] in _PROBES:
            return None
        name = _hostname(given)
        if name is not None and (name in self._hosts or name.endswith(".localhost")):
            return None
        return UnknownHost(
            f"This service is not called {given[:100]!r}; it answers to "
            f"{', '.join(sorted(self._hosts))}."
        )

    def _cross_site(self, scope: Scope, headers: Headers) -> ServiceError | None:
        origin = headers.get("origin")
        if origin is not None and origin.rstrip("/").lower() in self._origins:
            return None
        site = headers.get("sec-fetch-site")
        if site is not None:  # the browser says it itself, and no script can change that
            followed = headers.get("sec-fetch-mode") == "navigate" and scope["method"] == "GET"
            own = site in _OWN or followed  # a link on another site is no harm
        else:
            own = origin is None or _netloc(origin) == headers.get("host", "").lower()
        if own:
            return None
        return CrossSite(
            f"A page of {(origin or 'another site')[:100]} may not speak to this service."
        )


def names_of(host: str, allowed: str | None) -> frozenset[str] | None:
    """The names that a service listening on `host` is called by; None for any. `allowed` are more
    of them, with commas between them, or ``*`` for any."""
    more = [name.strip().lower() for name in (allowed or "").split(",") if name.strip()]
    if "*" in more or not (more or is_loopback(host)):
        return None
    return frozenset({"localhost", "127.0.0.1", "::1", host.lower(), *more})


def is_loopback(host: str) -> bool:
    """Whether an address to listen on is reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _hostname(host: str) -> str | None:
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def _netloc(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""
