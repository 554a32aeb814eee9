"""Prefixes of object stores that files of results may be copied below: those that the operator
lists, and no other."""

from __future__ import annotations

import re
from pathlib import Path

from service.errors import InvalidOption, StoreUnavailable
from service.settings import SettingsError
from service.storage.bucket import Bucket

_SCHEMES = ("s3", "gs", "az")
_SEGMENT = r"(?!\.{1,2}(/|$))[\w .,=+@()'&!-]+"  # what no store writes in another way
_PREFIX = re.compile(rf"({'|'.join(_SCHEMES)})://([a-z0-9][a-z0-9.-]*)((/{_SEGMENT})*)/?")


class Outputs:
    """Writes below the prefixes of one setting: ``s3://bucket/results, gs://other``. Endpoint and
    credentials are those of `Bucket`. Raises SettingsError and BucketError."""

    def __init__(self, setting: str | None = None) -> None:
        texts = [] if setting is None else [text.strip() for text in setting.split(",")]
        for text in texts:
            if _PREFIX.fullmatch(text) is None:
                raise SettingsError(
                    f"--output-prefixes {setting}: {text!r} is not a prefix such as "
                    "s3://bucket/results."
                )
        self._prefixes = [text.rstrip("/") for text in texts]
        self._buckets = {root: Bucket(root) for root in map(_root, self._prefixes)}

    @property
    def on(self) -> bool:
        """Whether there is any."""
        return bool(self._prefixes)

    def check(self, prefix: str) -> None:
        """Raises InvalidOption if nothing may be written below `prefix`."""
        if not self.on:
            raise InvalidOption(
                "output: this service writes to no object store. Give output_urls, download the "
                "files, or have it run with --output-prefixes.",
                option="output",
            )
        if _PREFIX.fullmatch(prefix) is None:
            raise InvalidOption(
                f"output: {prefix[:120]!r} is not a prefix such as s3://bucket/results/kitchen, of "
                "letters, digits, blanks and ._-=+@,()'&! between its slashes.",
                option="output",
            )
        if not any(f"{prefix.rstrip('/')}/".startswith(f"{ours}/") for ours in self._prefixes):
            raise InvalidOption(
                f"output: {prefix[:120]} is below no prefix that this service may write to.",
                option="output",
            )

    async def put(self, url: str, file: Path, media_type: str) -> None:
        """Store `file` at `url`, over what may be there. Raises StoreUnavailable if that can't be
        done, or may no longer be."""
        root = _root(url)
        bucket = self._buckets.get(root)
        if bucket is None:
            raise StoreUnavailable("The service no longer writes to this object store.")
        await bucket.put(file, url.removeprefix(f"{root}/"), media_type)


def is_output(url: str) -> bool:
    """Whether this is an object store's own address, and not one of HTTP."""
    return url.partition("://")[0] in _SCHEMES


def _root(url: str) -> str:
    """The bucket's address."""
    return "/".join(url.split("/", 3)[:3])
