"""The file of API keys: who may use the service, each key kept only as its hash."""

from __future__ import annotations

import hashlib
import json
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_PREFIX = "quantvggt_"
_RANDOM_BYTES = 32  # beyond guessing, so a plain SHA-256 is as good as a slow hash


class KeysError(ValueError):
    """The file of API keys is missing, or not what `add_key` writes."""


@dataclass(frozen=True)
class Quota:
    """What one key may use: reconstructions started in an hour, megapixels of pictures sent in an
    hour and in a day, and bytes of results kept at one time. None is no limit; others are at least
    1, or it raises KeysError."""

    per_hour: int | None = None
    megapixels_per_hour: float | None = None
    megapixels_per_day: float | None = None
    stored_bytes: int | None = None

    def __post_init__(self) -> None:
        for name, limit in asdict(self).items():
            if limit is not None and not (isinstance(limit, int | float) and limit >= 1):
                raise KeysError(
                    f"--{name.replace('_', '-')} {limit}: give at least 1, or leave it out for no "
                    "limit."
                )


@dataclass(frozen=True)
class Used:
    """What has been used of each limit of a `Quota`, up to now."""

    per_hour: int = 0
    megapixels_per_hour: float = 0.0
    megapixels_per_day: float = 0.0
    stored_bytes: int = 0


@dataclass(frozen=True)
class Key:
    """One client's key."""

    name: str
    sha256: str
    quota: Quota = Quota()


def add_key(path: Path, name: str, quota: Quota | None = None) -> str:
    """Make a key for `name`, add its hash to the file at `path`, and return it: it can't be had
    again.

    Raises KeysError if the file is damaged, or the name taken or none.
    """
    if not name or not name.isprintable() or len(name) > 100:
        raise KeysError("a key's name has 1 to 100 printable characters.")
    keys = read_keys(path) if path.exists() else []
    if any(key.name == name for key in keys):
        raise KeysError(
            f"{path} already has a key named {name!r}; choose another name or remove that entry."
        )
    token = _PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)
    keys.append(Key(name, hash_of(token), quota or Quota()))
    partial = path.with_name(f"{path.name}.partial")
    partial.touch(mode=0o600)
    partial.write_text(json.dumps({"keys": [_entry(key) for key in keys]}, indent=1) + "\n")
    partial.replace(path)
    return token


def ensure_keys(path: Path, first: Path) -> bool:
    """Make the file of keys at `path` if it is missing, with one key, which only the file `first`
    holds. Returns whether it did. Raises KeysError."""
    if path.exists():
        return False
    try:
        first.unlink(missing_ok=True)
        first.touch(mode=0o600)
        path.parent.mkdir(parents=True, exist_ok=True)
        first.write_text(add_key(path, "first") + "\n")
    except OSError as error:
        raise KeysError(f"can't make a first API key in {first}: {error}.") from None
    return True


def hash_of(token: str) -> str:
    """SHA-256 of a key, in hexadecimal."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def read_keys(path: Path) -> list[Key]:
    """All keys in the file at `path`. Raises KeysError."""
    try:
        keys = [_key(**entry) for entry in json.loads(path.read_text("utf-8"))["keys"]]
    except FileNotFoundError:
        raise KeysError(
            f"there is no file of API keys at {path}; make one with `quantvggt key`."
        ) from None
    except OSError as error:
        raise KeysError(f"{path} can't be read: {error.strerror}.") from None
    except (ValueError, KeyError, TypeError) as error:
        raise KeysError(f"{path} is not a file of API keys: {error!r}.") from None
    if not keys or not all(
        isinstance(key.name, str) and key.name and len(key.sha256) == 64 for key in keys
    ):
        raise KeysError(f"{path} holds no keys, or one without a name or SHA-256.")
    return keys


def _key(name: str, sha256: str, **limits: Any) -> Key:
    return Key(name, sha256, Quota(**limits))


def _entry(key: Key) -> dict[str, Any]:
    limits = {name: limit for name, limit in asdict(key.quota).items() if limit is not None}
    return {"name": key.name, "sha256": key.sha256, **limits}
