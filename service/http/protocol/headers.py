"""What request headers say: who asks (Authorization), how to answer (Accept, RFC 9110, 12.5.1, and
Prefer, RFC 7240), and which request it is (Idempotency-Key)."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Header, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from service.access import Client
from service.errors import InvalidOption, NotAcceptable

_KEY_LENGTH = 255
_OWNER_TOKEN = re.compile(r"[A-Za-z0-9_-]{16,128}")
_BEARER = HTTPBearer(
    auto_error=False, description="An API key; needed only where /capabilities says so."
)


async def client(
    request: Request,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)],
    owner_token: Annotated[
        str | None,
        Header(
            description="a random text of your own, 16 to 128 letters, digits, - and _: without "
            "API keys the list of reconstructions has those that were made with it",
            examples=["f3b1c2d4e5a697887766554433221100"],
        ),
    ] = None,
) -> Client:
    """The client that a request's key or owner token belongs to. Raises KeyRequired,
    InvalidOption."""
    if owner_token is not None and not _OWNER_TOKEN.fullmatch(owner_token):
        raise InvalidOption(
            "Owner-Token must have 16 to 128 letters, digits, - and _; leave it out to have no "
            "list of your own.",
            option="Owner-Token",
        )
    token = None if credentials is None else credentials.credentials
    found: Client = request.app.state.application.client(token, owner_token)
    return found


Asking = Annotated[Client, Depends(client)]
"""Who asks, as a parameter of every route that is not public."""


def choose(accept: str | None, offered: Sequence[str]) -> str:
    """The best of the media types `offered`, the first one being the default. Raises
    NotAcceptable."""
    if not accept or not accept.strip():
        return offered[0]
    ranges = [_parse(part) for part in accept.split(",") if part.strip()]
    best, best_quality = offered[0], 0.0
    for media_type in offered:
        quality = _quality(media_type, ranges)
        if quality > best_quality:
            best, best_quality = media_type, quality
    if best_quality == 0.0:
        raise NotAcceptable(
            f"There is no {accept[:120]}; there is {', '.join(offered)}.", available=list(offered)
        )
    return best


def _parse(part: str) -> tuple[str, float]:
    media_range, *parameters = (piece.strip().lower() for piece in part.split(";"))
    quality = 1.0
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                quality = float(parameter[2:])
            except ValueError:
                quality = 0.0
    return media_range, quality if math.isfinite(quality) else 0.0


def _quality(media_type: str, ranges: list[tuple[str, float]]) -> float:
    """The quality that the most specific matching range gives."""
    for wanted in (media_type, media_type.partition("/")[0] + "/*", "*/*"):
        found = [quality for media_range, quality in ranges if media_range == wanted]
        if found:
            return max(found)
    return 0.0


@dataclass(frozen=True)
class Preference:
    """How long a client wants to wait: forever (None), or so many seconds, and what of Prefer was
    applied."""

    wait: float | None
    applied: str | None


def read_prefer(header: str | None) -> Preference:
    """`respond-async` and `wait=seconds`; other preferences are ignored, as RFC 7240 wants it."""
    wait: float | None = None
    is_async = False
    for part in (header or "").split(","):
        name, _, value = part.partition(";")[0].strip().partition("=")
        if name.lower() == "respond-async":
            is_async = True
        elif name.lower() == "wait" and re.fullmatch(r"\d{1,6}", value.strip()):
            wait = float(value)
    if wait is None:
        return Preference(0.0, "respond-async") if is_async else Preference(None, None)
    return Preference(wait, f"respond-async, wait={wait:.0f}" if is_async else f"wait={wait:.0f}")


def read_idempotency_key(header: str | None) -> str | None:
    """The key, without the quotes of a structured string. Raises InvalidOption."""
    if header is None:
        return None
    key = header.strip()
    if len(key) >= 2 and key[0] == key[-1] == '"':
        key = key[1:-1]
    if not 0 < len(key) <= _KEY_LENGTH or not key.isascii() or not key.isprintable():
        raise InvalidOption(
            f"Idempotency-Key must be 1 to {_KEY_LENGTH} printable ASCII characters.",
            option="Idempotency-Key",
        )
    return key
