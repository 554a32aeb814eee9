"""Which URLs may be fetched, judged by their text alone; where their names lead is `network`'s to
judge."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address

import httpx

from service.inputs.remote.addresses import is_public
from service.settings import SettingsError

URL_LENGTH = 2048

_PORTS = {"https": 443, "http": 80}
_NAME = re.compile(
    r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*", re.IGNORECASE
)
_NUMBER = re.compile(r"(0x[0-9a-f]*|[0-9]+)", re.IGNORECASE)


class URLRefusedError(ValueError):
    """A URL that is never fetched. The message says why, to follow on the URL's name."""


@dataclass(frozen=True)
class Origin:
    scheme: str
    host: str
    port: int


class Hosts:
    """The hosts of one setting: without it every public one over https, with it those that it lists
    and no other.

    An entry is a host, with a port if it is not the scheme's own, and with ``http://`` before it to
    do without encryption: ``images.example.org, http://minio.storage.svc:9000``. Raises
    SettingsError for anything else.
    """

    def __init__(self, setting: str | None = None) -> None:
        self._listed: frozenset[Origin] | None = None
        if setting is not None:
            try:
                self._listed = frozenset(_entry(text.strip()) for text in setting.split(","))
            except ValueError as error:
                raise SettingsError(f"--fetch-hosts {setting}: {error}.") from None

    @property
    def listed(self) -> bool:
        """Whether there is a list."""
        return self._listed is not None

    def origin(self, url: httpx.URL) -> Origin:
        """Where `url` leads. Raises URLRefusedError if it may not be fetched."""
        origin = _origin(url)
        if self._listed is not None:
            if origin not in self._listed:
                raise URLRefusedError(
                    "is on a host, scheme or port that this service does not fetch from"
                )
        elif origin.scheme != "https":
            raise URLRefusedError("does not begin with https://")
        elif origin.port != _PORTS["https"]:
            raise URLRefusedError("has another port than 443")
        elif _is_refused_address(origin.host):
            raise URLRefusedError("names no address of the public internet")
        return origin

    def may_be_internal(self, host: str, port: int) -> bool:
        """Whether the operator listed this host, and so answers for where its name leads."""
        return any((origin.host, origin.port) == (host, port) for origin in self._listed or ())


def read_url(text: str) -> httpx.URL:
    """`text` as an absolute URL. Raises URLRefusedError."""
    if len(text) > URL_LENGTH:
        raise URLRefusedError(f"has more than {URL_LENGTH} characters")
    try:
        return httpx.URL(text.strip())
    except httpx.InvalidURL:
        raise URLRefusedError("is not a URL") from None


def _origin(url: httpx.URL) -> Origin:
    if url.scheme not in _PORTS or not url.raw_host:
        raise URLRefusedError("does not begin with https:// and a host")
    if url.userinfo:
        raise URLRefusedError("holds a user name or password")
    host = url.raw_host.decode("ascii").lower()
    if ":" in host:
        try:
            host = str(IPv6Address(host))
        except AddressValueError:
            raise URLRefusedError("has a host that is no IPv6 address") from None
        if "%" in host:
            raise URLRefusedError("has a host with a zone")
    elif _NUMBER.fullmatch(host.rstrip(".").rpartition(".")[2]):
        # such a host is an address however it is spelt (WHATWG URL, "ends in a number"), and one
        # spelling is taken
        try:
            host = str(IPv4Address(host))
        except AddressValueError:
            raise URLRefusedError("has a host that is an oddly written address") from None
    elif not _NAME.fullmatch(host):
        raise URLRefusedError("has a host that is no name")
    port = _PORTS[url.scheme] if url.port is None else url.port
    if not 0 < port < 65536:
        raise URLRefusedError("has a port that is none")
    return Origin(url.scheme, host, port)


def _entry(text: str) -> Origin:
    try:
        url = httpx.URL(text if "://" in text else f"https://{text}")
        if url.raw_path != b"/" or url.fragment:
            raise URLRefusedError("has more than scheme, host and port")
        return _origin(url)
    except (httpx.InvalidURL, URLRefusedError):
        raise ValueError(
            f"{text!r} is not a host such as images.example.org or http://10.0.0.5:9000"
        ) from None


def _is_refused_address(host: str) -> bool:
    if ":" in host:
        return not is_public(IPv6Address(host))
    try:
        return not is_public(IPv4Address(host))
    except AddressValueError:
        return False
