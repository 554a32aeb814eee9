"""Results and waiting inputs in an object store that replicas share; the disk holds copies of what
was used lately.

    incoming/{id}/             one accepted job's input, the passes of it that are finished, and
                               what they show to those who follow it
    results/{id}/{attempt}/    what that attempt made; ``result.json`` comes last

An attempt that is not on record as the job's is nobody's result, however complete it is. Files made
from a result are not stored: they follow from it, to the same bytes on every replica.
"""

from __future__ import annotations

import logging
import secrets
import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path

from service.errors import ServiceError, StoreUnavailable, gone
from service.result.document import ReconstructionDocument
from service.result.file import MadeFile
from service.result.scene import Scene
from service.storage.bucket import Bucket
from service.storage.folder import NAME, RESULT, Known, Storage, bytes_in, found_file

_FRESH_SECONDS = 10.0  # a copy that was used this lately stays, even if that is too much
_STRAY_AGE = timedelta(hours=1)  # before that it may belong to a job that is about to be recorded

_log = logging.getLogger("service")


class SharedStorage(Storage):
    """Results in `bucket`, with copies of at most `cache_bytes` in the folder `root`.

    Every method may raise StoreUnavailable beside what it raises of itself.
    """

    shared = True

    def __init__(
        self, root: Path | None, min_free_bytes: int, bucket: Bucket, cache_bytes: int
    ) -> None:
        super().__init__(root, min_free_bytes)
        self._bucket = bucket
        self._cache_bytes = cache_bytes
        self._used: dict[str, float] = {}
        self._held: Counter[str] = Counter()
        for folder in (self._incoming, self._results):  # of an earlier process
            for path in folder.iterdir():
                shutil.rmtree(path, ignore_errors=True)

    @property
    def place(self) -> str:
        return "the object store"

    def check_room(self, needed: int = 0) -> None:
        self._evict()
        super().check_room(needed)

    def accept(self, id: str, write: Callable[[Path], None]) -> None:
        super().accept(id, write)
        try:
            self._bucket.send(self._incoming / id, _input(id))
        except BaseException:
            self._try_to_remove(_input(id))
            raise
        finally:
            super().drop_incoming(id)

    @contextmanager
    def incoming(self, id: str) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(dir=self._incoming, prefix=id) as folder:
            try:
                self._bucket.fetch(_input(id), Path(folder))
            except FileNotFoundError:
                raise ServiceError(
                    "What was sent for this reconstruction is no longer in the object store."
                ) from None
            yield Path(folder)

    def keep(self, id: str, file: Path) -> None:
        """Send it along; without it, the work would only take longer."""
        try:
            self._bucket.send_file(file, _input(id))
        except StoreUnavailable:
            _log.warning("%s of job %s was not sent to the object store", file.name, id)

    def found(self, id: str, number: int) -> bytes | None:
        return self._bucket.read(f"{_input(id)}/{found_file(number)}")

    def drop_incoming(self, id: str) -> None:
        self._try_to_remove(_input(id))

    def save(self, name: str, write: Callable[[Path], bytes]) -> None:
        with self._holding(name):
            super().save(name, write)
            try:
                self._bucket.send(self._results / name, _output(name), last=RESULT)
            except BaseException:
                self.remove(name)
                raise

    def result(self, name: str) -> ReconstructionDocument:
        with self._copied(name):
            return super().result(name)

    def scene(self, name: str) -> Scene:
        with self._copied(name):
            return super().scene(name)

    def holds_results(self) -> bool:
        return any(True for _ in self._bucket.listing("results"))

    def made(self, name: str, file: str) -> MadeFile | None:
        with self._copied(name):
            return super().made(name, file)

    def export(self, name: str, file: str, make: Callable[[Path], None]) -> MadeFile:
        with self._copied(name):
            return super().export(name, file, make)

    def size(self, name: str) -> int:
        return sum(
            path.stat().st_size for path in (self._results / name).iterdir() if path.is_file()
        )

    def sizes(self, recorded: Mapping[str, int]) -> dict[str, int]:
        return dict(recorded)

    def remove(self, name: str) -> None:
        super().remove(name)
        self._try_to_remove(_output(name))

    def sweep(self, known: Callable[[], Known]) -> set[str]:
        """Remove objects that no job stands for and that are not new, and copies of what is
        gone."""
        written: dict[str, datetime] = {}
        for stored in (*self._bucket.listing("incoming"), *self._bucket.listing("results")):
            written[stored.folder] = max(stored.written, written.get(stored.folder, stored.written))
        copies = self._copies()
        # after the listing, so that whatever was listed is on record by now, or stray
        asked = known()
        kept = {_input(id) for id in asked.inputs} | {_output(name) for name in asked.results}
        oldest = datetime.now(timezone.utc) - _STRAY_AGE
        for folder, last in written.items():
            if folder not in kept and last < oldest:
                self._bucket.remove(folder)
        for path in copies:
            if path.name not in asked.results:
                self._drop(path)
        return set()  # a listing is no proof that a result is lost

    @contextmanager
    def _copied(self, name: str) -> Iterator[None]:
        """Hold a copy of the result on this disk. Raises NotFound."""
        folder = self._folder(name)
        with self._guard:
            fetching = self._locks.setdefault((name, ""), threading.Lock())
        with self._holding(name):
            with fetching:
                if not folder.is_dir():
                    self._fetch(name, folder)
            yield

    @contextmanager
    def _holding(self, name: str) -> Iterator[None]:
        """Keep the copy of a result from being dropped."""
        with self._guard:
            self._held[name] += 1
        try:
            yield
        finally:
            with self._guard:
                self._used[name] = time.monotonic()
                self._held[name] -= 1
                if not self._held[name]:
                    del self._held[name]

    def _fetch(self, name: str, folder: Path) -> None:
        self.check_room()

        def copy(target: Path) -> None:
            self._bucket.fetch(_output(name), target)
            if not (target / RESULT).is_file():
                raise FileNotFoundError

        try:
            self._appear(folder, copy)
        except FileNotFoundError:
            raise gone() from None

    def _drop(self, copy: Path) -> bool:
        """Remove a copy, unless it is used now or was lately; who wants it from here on fetches it
        anew."""
        away = copy.with_name(f"{copy.name}.{secrets.token_hex(4)}")
        with self._guard:
            fresh = time.monotonic() - self._used.get(copy.name, -_FRESH_SECONDS) < _FRESH_SECONDS
            if self._held[copy.name] or fresh:
                return False
            with suppress(FileNotFoundError):  # somebody else was faster
                copy.rename(away)
        shutil.rmtree(away, ignore_errors=True)
        return True

    def _evict(self) -> None:
        """Drop the copies that were not used for longest, until the rest is within the bound."""
        copies = sorted(self._copies(), key=lambda path: self._used.get(path.name, 0.0))
        sizes = {path: bytes_in(path) for path in copies}
        with self._guard:
            names = {path.name for path in copies}
            self._used = {name: used for name, used in self._used.items() if name in names}
        total = sum(sizes.values())
        for path in copies:
            if total <= self._cache_bytes:
                return
            if self._drop(path):
                total -= sizes[path]

    def _copies(self) -> list[Path]:
        """The copies that are whole."""
        return [path for path in self._results.iterdir() if NAME.fullmatch(path.name)]

    def _try_to_remove(self, folder: str) -> None:
        """Nothing on record leads there any more, so what can't be removed now is swept away
        later."""
        try:
            self._bucket.remove(folder)
        except StoreUnavailable:
            _log.warning("%s stays in the object store until it is swept", folder)


def _input(id: str) -> str:
    return f"incoming/{id}"


def _output(name: str) -> str:
    return f"results/{name.replace('-', '/')}"
