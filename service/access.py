"""Who may use the service, and how much of it."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from pathlib import Path

from service.errors import KeyRequired
from service.keys import hash_of, read_keys


@dataclass(frozen=True)
class Client:
    """Somebody who may use the service; `per_hour` bounds the reconstructions that they start, None
    does not."""

    name: str
    per_hour: int | None = None


ANYBODY = Client("")


class Access:
    """Knows clients by their keys. Without a file of keys everybody is the same client. Raises
    KeysError."""

    def __init__(self, path: Path | None) -> None:
        self._keys = None if path is None else read_keys(path)

    @property
    def restricted(self) -> bool:
        """Whether keys are needed."""
        return self._keys is not None

    def client(self, token: str | None) -> Client:
        """The client whose key `token` is. Raises KeyRequired. Takes equally long whichever key it
        is, or none."""
        if self._keys is None:
            return ANYBODY
        given = hash_of(token or "")
        found = None
        for key in self._keys:
            if hmac.compare_digest(key.sha256, given):
                found = key
        if token is None or found is None:
            raise KeyRequired("Send an API key of this service as `Authorization: Bearer …`.")
        return Client(found.name, found.per_hour)
