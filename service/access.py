"""Who may use the service: API keys, kept only as hashes, and what each may use."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path

from service.errors import KeyRequired

_PREFIX = "recon_"
_RANDOM_BYTES = 32  # beyond guessing, so a plain SHA-256 is as good as a slow hash


class KeysError(ValueError):
    """The file of API keys is missing, or not what `add_key` writes."""


@dataclass(frozen=True)
class Client:
    """Somebody who may use the service; `per_hour` bounds the reconstructions that they start, None does not."""

    name: str
    per_hour: int | None = None


ANYBODY = Client("")


@dataclass(frozen=True)
class _Key:
    name: str
    sha256: str
    per_hour: int | None = None


class Access:
    """Knows clients by their keys. Without a file of keys everybody is the same client."""

    def __init__(self, path: Path | None) -> None:
        self._keys = None if path is None else _read(path)

    @property
    def restricted(self) -> bool:
        """Whether keys are needed."""
        return self._keys is not None

    def client(self, token: str | None) -> Client:
        """The client whose key `token` is. Raises KeyRequired. Takes equally long whichever key it is, or none."""
        if self._keys is None:
            return ANYBODY
        given = _hash(token or "")
        found = None
        for key in self._keys:
            if hmac.compare_digest(key.sha256, given):
                found = key
        if token is None or found is None:
            raise KeyRequired("Send an API key of this service as `Authorization: Bearer …`.")
        return Client(found.name, found.per_hour)


def add_key(path: Path, name: str, per_hour: int | None = None) -> str:
    """Make a key for `name`, add its hash to the file at `path`, and return it: it can't be had again.

    Raises KeysError if the file is damaged or the name taken.
    """
    keys = _read(path) if path.exists() else []
    if any(key.name == name for key in keys):
        raise KeysError(f"{path} already has a key named {name!r}; choose another name or remove that entry.")
    if not name or not name.isprintable() or len(name) > 100:
        raise KeysError("a key's name has 1 to 100 printable characters.")
    token = _PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)
    keys.append(_Key(name, _hash(token), per_hour))
    partial = path.with_name(f"{path.name}.partial")
    partial.touch(mode=0o600)
    partial.write_text(json.dumps({"keys": [asdict(key) for key in keys]}, indent=1) + "\n")
    partial.replace(path)
    return token


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def _read(path: Path) -> list[_Key]:
    try:
        keys = [_Key(**entry) for entry in json.loads(path.read_text("utf-8"))["keys"]]
    except FileNotFoundError:
        raise KeysError(f"there is no file of API keys at {path}; make one with `python -m service key`.") from None
    except (ValueError, KeyError, TypeError) as error:
        raise KeysError(f"{path} is not a file of API keys: {error!r}.") from None
    if not keys or not all(isinstance(key.name, str) and key.name and len(key.sha256) == 64 for key in keys):
        raise KeysError(f"{path} holds no keys, or one without a name or SHA-256.")
    return keys
