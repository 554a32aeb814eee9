"""When what another server did not take is sent again."""

from __future__ import annotations

import ssl

import httpcore

from service.inputs.remote.hosts import URLRefusedError

WAITS = (15.0, 60.0, 300.0, 1800.0, 3 * 3600.0, 12 * 3600.0)
"""Seconds before the next attempt, the longer the more have failed; after the last it is given
up."""

NOT_REACHED = (
    URLRefusedError, TimeoutError, ssl.SSLError, httpcore.TimeoutException,
    httpcore.NetworkError, httpcore.ProtocolError,
)  # fmt: skip
"""What `Fetcher.send` raises where a server can't be reached or does not speak HTTP."""
