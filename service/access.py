"""Who may use the service, and how much of it."""

from __future__ import annotations

import hmac
import logging
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from service.errors import KeyRequired
from service.keys import Key, KeysError, Quota, hash_of, read_keys

_LOOK_SECONDS = 1.0

_log = logging.getLogger("service")


@dataclass(frozen=True)
class Client:
    """Somebody who may use the service. What a client with a key uses is counted, and bounded by
    the key's `quota`; of others nothing is. One who is `limited` shares the service with others,
    and takes no more than is left for them."""

    name: str
    quota: Quota | None = None
    limited: bool = False


ANYBODY = Client("")
_OWNER = "\n"  # before the names of owners: no key's name has it, for it can't be printed


def owner(token: str) -> Client:
    """Who sends this random token: a browser, without an API key. Only a hash of it is kept."""
    return Client(f"{_OWNER}{hash_of(token)[:32]}")


class Access:
    """Knows clients by their keys. Without a file of keys they are known by random tokens that they
    may send, unless the gallery is `shared`: then everybody is the same client. Raises KeysError.

    A file that changes is read again; one that is damaged or gone by then changes nothing.
    """

    def __init__(self, path: Path | None, shared: bool = False) -> None:
        self._shared = shared
        self._path = path
        self._seen: object = None if path is None else _stamp(path)
        self._keys = None if path is None else read_keys(path)
        self._next_look = time.monotonic() + _LOOK_SECONDS
        self._looking = threading.Lock()

    @property
    def restricted(self) -> bool:
        """Whether keys are needed."""
        return self._keys is not None

    def names(self) -> list[str]:
        """Of all keys."""
        return [key.name for key in self._current() or ()]

    @property
    def gallery(self) -> Literal["key", "owner", "shared"]:
        """Whose results a client sees in a list: its key's, its owner token's, or everybody's."""
        return "key" if self.restricted else "shared" if self._shared else "owner"

    def may_read(self, client: Client, name: str) -> bool:
        """Whether `client` may read what the client of this name made. Without keys whoever knows a
        result's id may, for it can't be guessed."""
        return client.name == name or (
            not self.restricted and (name == ANYBODY.name or name.startswith(_OWNER))
        )

    def client(self, token: str | None, owner_token: str | None = None) -> Client:
        """The client whose key `token` is, or without keys, whose `owner_token` that is. Raises
        KeyRequired. Takes equally long whichever key it is, or none."""
        keys = self._current()
        if keys is None:
            return ANYBODY if owner_token is None or self._shared else owner(owner_token)
        given = hash_of(token or "")
        found = None
        for key in keys:
            if hmac.compare_digest(key.sha256, given):
                found = key
        if token is None or found is None:
            raise KeyRequired("Send an API key of this service as `Authorization: Bearer …`.")
        return Client(found.name, found.quota, len(keys) > 1)

    def named(self, name: str) -> Client:
        """The client of this name, who asked for something earlier. Raises KeyRequired if the key
        is gone."""
        keys = self._current()
        if keys is None:
            return Client(name)
        for key in keys:
            if key.name == name:
                return Client(key.name, key.quota, len(keys) > 1)
        raise KeyRequired("The API key with which this was asked for has been removed.")

    def _current(self) -> list[Key] | None:
        """The keys as the file has them, which is looked at once a second."""
        if self._path is None or time.monotonic() < self._next_look:
            return self._keys
        with self._looking:
            self._next_look = time.monotonic() + _LOOK_SECONDS
            stamp = _stamp(self._path)
            if stamp != self._seen:
                self._seen = stamp
                try:
                    self._keys = read_keys(self._path)
                    _log.info("API keys were read again: there are %d", len(self._keys))
                except KeysError as error:
                    _log.error("the API keys stay as they were: %s", error)
        return self._keys


def _stamp(path: Path) -> object:
    """What changes when a file does."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
