"""Checkpoints of a model hub: found in the cache, or listed, checked against the disk, downloaded.

The client is huggingface_hub, with its settings: HF_TOKEN, HF_HOME, HF_ENDPOINT, HF_HUB_OFFLINE.
"""

from __future__ import annotations

import concurrent.futures
import json
import logging
import re
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TypeVar

from huggingface_hub import (
    HfApi,
    constants,
    errors,
    get_hf_file_metadata,
    get_token,
    hf_hub_download,
    hf_hub_url,
    snapshot_download,
)
from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined] # of the library's transport
from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.utils import logging as hub_logging

from model.errors import CheckpointError
from model.files import weights

CONFIG = "config.json"
_LOCATION = re.compile(
    r"(?P<repository>[A-Za-z0-9][\w.-]*/[\w.-]+)(@(?P<revision>[^:\s]+))?(:(?P<file>\S+))?"
)
_T = TypeVar("_T")


@dataclass(frozen=True)
class HubLocation:
    """`owner/name`, with `@revision` (a branch, tag or commit) and `:file` where they are given."""

    repository: str
    revision: str | None = None
    file: str | None = None

    def __str__(self) -> str:
        revision = f"@{self.revision}" if self.revision else ""
        return f"{self.repository}{revision}" + (f":{self.file}" if self.file else "")

    @classmethod
    def parse(cls, text: str) -> HubLocation | None:
        """None if `text` does not have this form; a name that ends like a weights file has not."""
        found = _LOCATION.fullmatch(text)
        if found is None or found["repository"].endswith(weights.SUFFIXES):
            return None
        return cls(found["repository"], found["revision"], found["file"])


def fetch(location: HubLocation, *, newest: bool = False) -> Path:
    """Path of the weights file, or of the index of its shards; beside it config.json if there is
    one.

    What the cache holds is taken without asking the hub, unless `newest` asks for the hub's present
    files.
    Raises CheckpointError with one sentence that says why there are none.
    """
    cached = None if newest else _in_cache(location, known_only=True)
    if cached is not None:
        return cached
    try:
        with _quiet():
            return _download(location)
    except CheckpointError:
        raise
    except Exception as error:  # the transports behind the library raise classes of their own
        cached = _in_cache(location, known_only=False) if _unreachable(error) else None
        if cached is not None:
            return cached
        raise CheckpointError(_reason(error, location)) from error


def _in_cache(location: HubLocation, *, known_only: bool) -> Path | None:
    """The cached weights; None unless they, and all of their shards, are there.

    With `known_only`, only a file that was named, or has a known name: of a repository's other
    files the cache may hold one that was downloaded by name, which says nothing about the one that
    is meant. Raises CheckpointError without it if several are there.
    """
    try:
        # downloads nothing: names the snapshot's folder
        folder = Path(
            snapshot_download(
                location.repository,
                revision=location.revision,
                local_files_only=True,
                allow_patterns=[],
            )
        )
    except (OSError, errors.HFValidationError):  # it is not there, or may not be read
        return None
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    name = location.file or weights.choose(names, str(location), ":", known_only=known_only)
    if name is None or not (folder / name).is_file():
        return None
    complete = all(file.is_file() for file in weights.files_of(folder / name))
    return folder / name if complete else None


def _download(location: HubLocation) -> Path:
    """Raises CheckpointError for what this module finds, and whatever the library raises."""
    listed = _in_time(
        lambda: HfApi().model_info(
            location.repository, revision=location.revision, timeout=_patience()
        )
    )
    names = [file.rfilename for file in listed.siblings or []]
    name = location.file or weights.choose(names, str(location), ":")
    if name is None:
        raise weights.none_in(str(location))
    if name not in names:
        present = ", ".join(n for n in names if n.endswith((*weights.SUFFIXES, weights.INDEX)))
        raise CheckpointError(
            f"{HubLocation(location.repository, location.revision)} has no file {name}; "
            f"its weights files: {present or 'none'}"
        )
    folder = PurePosixPath(name).parent
    beside = [config for config in [str(folder / CONFIG)] if config in names]
    path = _download_files(location, [*beside, name])  # the configuration first: weights imply it
    shards = [file.name for file in weights.files_of(path) if file != path]
    if shards:
        _download_files(location, [str(folder / shard) for shard in shards])
    return path


def _download_files(location: HubLocation, names: Sequence[str]) -> Path:
    """Downloads files that the disk has room for; returns the path of the last one."""
    _check_room(location, names)
    for name in names:
        path = hf_hub_download(
            location.repository, name, revision=location.revision, etag_timeout=_patience()
        )
    return Path(path)


def _check_room(location: HubLocation, names: Sequence[str]) -> None:
    """Asks the hub for the files' sizes; thereby also whether they may be read.

    Raises CheckpointError if those that are not cached take more than the cache's disk has left.
    """
    cache = _cache()
    blobs = cache / repo_folder_name(repo_id=location.repository, repo_type="model") / "blobs"
    needed = 0
    for name in names:
        url = hf_hub_url(location.repository, name, revision=location.revision)
        found = _in_time(partial(get_hf_file_metadata, url, timeout=_patience()))
        if found.size is not None and not (blobs / str(found.etag)).exists():
            needed += found.size
    existing = next(folder for folder in (cache, *cache.parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise CheckpointError(
            f"{location} takes {needed / 1e9:.1f} GB and the disk of {cache} has {free / 1e9:.1f} "
            "GB left: "
            "make room, or set HF_HOME to a folder on a larger disk"
        )


def _cache() -> Path:
    return Path(constants.HF_HUB_CACHE)


def _patience() -> int:
    """Seconds to wait for an answer that is not a file: 10, or HF_HUB_ETAG_TIMEOUT."""
    return constants.HF_HUB_ETAG_TIMEOUT


def _in_time(ask: Callable[[], _T]) -> _T:
    """The answer of `ask`. Raises TimeoutError if there is none in time.

    The library's own timeouts start anew for each of a host's addresses, and leave out the look-up
    of its name.
    """
    answer: concurrent.futures.Future[_T] = concurrent.futures.Future()

    def run() -> None:
        try:
            answer.set_result(ask())
        except BaseException as error:
            answer.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    try:
        return answer.result(_patience())
    except concurrent.futures.TimeoutError as error:
        raise TimeoutError(f"no answer within {_patience()} s") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the library's log of retries and advice: what matters of it is in the error."""
    before = hub_logging.get_verbosity()
    hub_logging.set_verbosity(logging.CRITICAL)
    try:
        yield
    finally:
        hub_logging.set_verbosity(before)


def _cause(error: BaseException) -> BaseException:
    """What lies below the library's "not in the cache, and the hub could not be asked"."""
    while isinstance(error, errors.LocalEntryNotFoundError) and error.__cause__ is not None:
        error = error.__cause__
    return error


def _unreachable(error: BaseException) -> bool:
    """Whether the hub could not be asked: no connection, no answer in time, or its own failure."""
    error = _cause(error)
    if isinstance(error, errors.HfHubHTTPError):
        return error.response.status_code >= 500
    return isinstance(error, (HTTPError, ConnectionError, TimeoutError))


def _reason(error: BaseException, location: HubLocation) -> str:
    """One sentence on why the hub did not give the files, and what to do."""
    error = _cause(error)
    hub, repository = constants.ENDPOINT, location.repository
    logged_in = get_token() is not None
    log_in = "log in with `hf auth login` or set HF_TOKEN"
    elsewhere = "or download the weights elsewhere and give their path"
    status = error.response.status_code if isinstance(error, errors.HfHubHTTPError) else None

    if isinstance(error, errors.GatedRepoError):
        if logged_in:
            return (
                f"{repository} is gated, and the token in use may not read it: "
                f"ask for access at {hub}/{repository} with the token's account"
            )
        return f"{repository} is gated: accept its terms at {hub}/{repository}, then {log_in}"
    if isinstance(error, errors.RevisionNotFoundError):
        return (
            f"{hub}/{repository} has no revision {location.revision or constants.DEFAULT_REVISION}"
        )
    if isinstance(error, errors.EntryNotFoundError) and status is not None:
        return (
            f"{hub}/{repository} lists a file that it does not have ({location}): try again later"
        )
    if (
        isinstance(error, errors.RepositoryNotFoundError)
        or status == 404
        or (status == 401 and not logged_in)
    ):
        private = "the token in use may not read" if logged_in else f"is private ({log_in})"
        return (
            f"there is no file or folder {location}, and {hub} has no repository {repository}, "
            f"or one that {private}: check the name"
        )
    if status == 401:
        return f"{hub} does not know the token in use: {log_in} again"
    if status is not None:
        later = ": try again later" if status == 429 or status >= 500 else ""
        return f"{location} cannot be downloaded, since {hub} answered with status {status}{later}"
    if isinstance(error, errors.HFValidationError):
        return f"no checkpoint at '{location}': neither a file, a folder, nor a possible repository"
    if isinstance(error, errors.OfflineModeIsEnabled):
        return (
            f"{location} is not in the cache {_cache()}, and HF_HUB_OFFLINE forbids to download "
            "it: "
            f"unset it, {elsewhere}"
        )
    if isinstance(error, (HTTPError, ConnectionError, TimeoutError)):
        return (
            f"{location} is not in the cache {_cache()}, and {hub} cannot be reached "
            f"({_first_line(error)}): check the connection, {elsewhere}"
        )
    if isinstance(error, (errors.FileMetadataError, json.JSONDecodeError, KeyError, TypeError)):
        return (
            f"{location} cannot be downloaded: what answers at {hub} is not a model hub "
            "(HF_ENDPOINT)"
        )
    if isinstance(error, OSError) and error.strerror:
        return (
            f"{location} cannot be stored in the cache {_cache()} ({error.strerror}): "
            "make room, or set HF_HOME to a folder with room that may be written to"
        )
    return f"{location} cannot be downloaded from {hub}: {_first_line(error)}"


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
