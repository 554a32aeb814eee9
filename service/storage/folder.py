"""Results and waiting inputs on disk, and the files made from results.

    incoming/{id}/     one accepted job's input, until it has ended
    results/{name}/    the arrays in one file, and ``result.json``; ``exports/`` holds files made
                       from them, each beside its SHA-256

A result's name is its job's id and which attempt made it, so two attempts never write to the same
place. Every folder and file appears by renaming, so it is whole or not there; inputs and results
are on the disk, not only in its cache, before a job's record says so, and so outlive a power cut.
Whether a result exists is the job store's word: what it does not know is swept away at the next
start. Names inside are fixed; nothing that a client sends becomes part of a path.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import secrets
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakValueDictionary

from model.files.artifact import sha256
from service.errors import ResultDamaged, ServiceError, StorageFull, gone, is_full
from service.result.document import ReconstructionDocument
from service.result.file import MadeFile
from service.result.scene import Scene
from service.storage.arrays import mapped

NAME = re.compile(r"[0-9a-f]{32}(-[1-9][0-9]{0,8})?")
RESULT = "result.json"
_EXPORTS_KEPT = 1024  # per reconstruction
_REMOVED = ".removed"

_log = logging.getLogger("service")


class StorageInUseError(RuntimeError):
    """Another process serves from the same folder."""


@dataclass(frozen=True)
class Known:
    """What the job store knows: inputs that are waited for, by job, and results by name."""

    inputs: set[str]
    results: set[str]


class Storage:
    """The folder `root`, or a temporary one that goes with `close`. Safe to call from several
    threads.

    Raises StorageInUseError if another process has it.
    """

    shared = False

    def __init__(self, root: Path | None, min_free_bytes: int = 0) -> None:
        self._temporary = (
            tempfile.TemporaryDirectory(prefix="reconstructions-") if root is None else None
        )
        self.root = Path(self._temporary.name) if self._temporary else Path(root or "")
        self.min_free_bytes = min_free_bytes
        self._incoming, self._results = self.root / "incoming", self.root / "results"
        self._guard = threading.Lock()
        self._locks: WeakValueDictionary[tuple[str, str], threading.Lock] = WeakValueDictionary()
        for folder in (self._incoming, self._results):
            folder.mkdir(parents=True, exist_ok=True)
        self._owner = (self.root / "lock").open("w")
        try:
            fcntl.flock(self._owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._owner.close()
            raise StorageInUseError(
                f"{self.root} is in use by another service; give this one a folder of its own"
            ) from None

    @property
    def database(self) -> Path:
        """Where the job store lies."""
        return self.root / "jobs.sqlite3"

    @property
    def place(self) -> str:
        """Where the results lie, for people."""
        return str(self._results)

    def check_room(self, needed: int = 0) -> None:
        """Raises StorageFull if less than `min_free_bytes` would be free beside `needed` ones."""
        free = shutil.disk_usage(self.root).free
        if free < self.min_free_bytes + needed:
            raise StorageFull(
                f"{free} bytes are free for results; {needed} are needed and {self.min_free_bytes} "
                "kept in reserve.",
            )

    def accept(self, id: str, write: Callable[[Path], None]) -> None:
        """Let `write` fill the folder of a job's input. Raises StorageFull; then nothing is
        left."""
        self.check_room()
        self._appear(self._incoming / id, write)

    @contextmanager
    def incoming(self, id: str) -> Iterator[Path]:
        """A folder with a waiting job's input, to be read."""
        yield self._incoming / id

    def keep(self, id: str, file: Path) -> None:
        """Let whoever takes up a job's work again find `file`, which lies in its `incoming` folder:
        here it does."""

    def found(self, id: str, number: int) -> bytes | None:
        """The points of a finished chunk of a job that is worked on, None if there are none."""
        try:
            return (self._incoming / id / found_file(number)).read_bytes()
        except FileNotFoundError:
            return None

    def drop_incoming(self, id: str) -> None:
        shutil.rmtree(self._incoming / id, ignore_errors=True)

    def save(self, name: str, write: Callable[[Path], bytes]) -> None:
        """Store a result: let `write` fill its folder with arrays and return its document.

        Raises StorageFull, and what `write` raises; then nothing is left.
        """
        self.check_room()

        def fill(folder: Path) -> None:
            (folder / RESULT).write_bytes(write(folder))

        # an attempt that was cut off before it was recorded
        shutil.rmtree(self._results / name, ignore_errors=True)
        self._appear(self._results / name, fill)

    def result(self, name: str) -> ReconstructionDocument:
        """The result's document. Raises NotFound, ResultDamaged."""
        folder = self._folder(name)
        try:
            return ReconstructionDocument.model_validate_json((folder / RESULT).read_bytes())
        except FileNotFoundError:
            if folder.is_dir():
                raise _damaged(folder, "it has no document") from None
            raise gone() from None
        except ValueError as error:
            raise _damaged(folder, error) from None

    def scene(self, name: str) -> Scene:
        """The result with its arrays mapped, not read. Raises NotFound, ResultDamaged."""
        document = self.result(name)
        folder = self._folder(name)
        try:
            return Scene.of(document, mapped(folder))
        except FileNotFoundError:
            raise gone() from None
        except (KeyError, TypeError, ValueError) as error:
            raise _damaged(folder, error) from None

    def holds_results(self) -> bool:
        """Whether any result or waiting input lies here."""
        return any(
            NAME.fullmatch(path.name)
            for folder in (self._results, self._incoming)
            for path in folder.iterdir()
        )

    def made(self, name: str, file: str) -> MadeFile | None:
        """The file `file` of a result if it was made before and is as it was then."""
        path = self._folder(name) / "exports" / file
        digest = path.with_name(f"{file}.sha256")
        try:
            recorded, status = digest.read_text().split(), path.stat()
            if recorded[1:] != _stamp(status):  # changed since, or made by an older version
                if sha256(path) != recorded[0]:
                    _log.warning("%s was changed on disk and is made again", path)
                    return None
                digest.write_text(" ".join([recorded[0], *_stamp(status)]))
            os.utime(digest)
        except (FileNotFoundError, IndexError):
            return None
        return MadeFile(path, status.st_size, recorded[0])

    def export(self, name: str, file: str, make: Callable[[Path], None]) -> MadeFile:
        """The file `file` made from a result, by `make` if nobody asked for it before. Raises
        NotFound, StorageFull."""
        folder = self._folder(name)
        exports = folder / "exports"
        with self._guard:
            making = self._locks.setdefault((name, file), threading.Lock())
        with making, _room():
            made = self.made(name, file)
            if made is not None:
                return made
            try:
                exports.mkdir(exist_ok=True)
                return self._make(exports, exports / file, make)
            except Exception:
                if folder.is_dir():
                    raise
                raise gone() from None  # never there, or removed meanwhile

    def size(self, name: str) -> int:
        """Bytes of a result that was saved here."""
        return bytes_in(self._results / name)

    def sizes(self, recorded: Mapping[str, int]) -> dict[str, int]:
        """Bytes of results by name, of which so many are on record; files made from them since
        count."""
        return {name: self.size(name) for name in recorded}

    def remove(self, name: str) -> None:
        """Remove a result and its files, at once for all who ask from here on. Downloads that are
        under way end undisturbed."""
        folder = self._results / name
        away = folder.with_name(f"{name}.{secrets.token_hex(4)}{_REMOVED}")
        try:
            folder.rename(away)
        except FileNotFoundError:
            return
        except OSError:  # a disk so full that it takes no new name
            away = folder
        shutil.rmtree(away, ignore_errors=True)

    def sweep_removed(self) -> None:
        """What was to be removed and could not be, or only in part: once more."""
        for path in self._results.glob(f"*{_REMOVED}"):
            shutil.rmtree(path, ignore_errors=True)

    def sweep(self, known: Callable[[], Known]) -> set[str]:
        """Remove what no job stands for; returns the names of known results that are missing."""
        asked = known()
        for folder, names in ((self._incoming, asked.inputs), (self._results, asked.results)):
            for path in folder.iterdir():
                if path.name not in names:
                    shutil.rmtree(path, ignore_errors=True)
        for partial in self._results.glob("*/exports/*.partial"):
            partial.unlink()
        return {name for name in asked.results if not (self._results / name / RESULT).is_file()}

    def close(self) -> None:
        """Release the folder, and remove it if it is temporary."""
        self._owner.close()
        if self._temporary is not None:
            self._temporary.cleanup()

    def _folder(self, name: str) -> Path:
        if not NAME.fullmatch(name):
            raise gone()
        return self._results / name

    def _appear(self, target: Path, write: Callable[[Path], None]) -> None:
        partial = target.with_name(f"{target.name}.partial")
        with _room():
            try:
                partial.mkdir()
                write(partial)
                _sync(partial)
                partial.rename(target)
                _sync_one(target.parent)
            except BaseException:
                shutil.rmtree(partial, ignore_errors=True)
                raise

    def _make(self, exports: Path, path: Path, make: Callable[[Path], None]) -> MadeFile:
        self.check_room()
        partial = path.with_name(f"{path.name}.partial")
        digest = path.with_name(f"{path.name}.sha256")
        try:
            make(partial)
            sum, status = sha256(partial), partial.stat()
            digest.unlink(missing_ok=True)  # of a file that was changed
            partial.rename(path)
            digest.with_suffix(".partial").write_text(" ".join([sum, *_stamp(status)]))
            digest.with_suffix(".partial").rename(digest)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        for old in _by_age(exports)[:-_EXPORTS_KEPT]:
            old.unlink(missing_ok=True)
            old.with_suffix("").unlink(missing_ok=True)
        return MadeFile(path, status.st_size, sum)


def found_file(number: int) -> str:
    """The name of the points of a finished chunk, in the folder of a job's input."""
    return f"found-{number}.ply"


def _damaged(folder: Path, reason: object) -> ResultDamaged:
    _log.error("%s is damaged: %s", folder, str(reason).partition("\n")[0])
    return ResultDamaged("The files of this reconstruction are damaged on the service's disk.")


def _by_age(exports: Path) -> list[Path]:
    """The sums of made files, the longest unused first; others may remove some meanwhile."""
    ages = []
    for file in exports.glob("*.sha256"):
        with suppress(FileNotFoundError):
            ages.append((file.stat().st_mtime_ns, file))
    return [file for _, file in sorted(ages)]


def _stamp(status: os.stat_result) -> list[str]:
    """What changes when a file is changed: its size, and when that was."""
    return [str(status.st_size), str(status.st_mtime_ns)]


def _sync(folder: Path) -> None:
    """Wait until everything in `folder`, and its listings, are on the disk."""
    for path in (*folder.rglob("*"), folder):
        _sync_one(path)


def _sync_one(path: Path) -> None:
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


@contextmanager
def _room() -> Iterator[None]:
    try:
        yield
    except ServiceError:
        raise
    except Exception as error:  # of many types
        if not is_full(error):
            raise
        raise StorageFull("The disk for results is full; nothing was kept.") from None


def bytes_in(folder: Path) -> int:
    """Bytes of all files in and below `folder`; what is removed meanwhile does not count."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                total += Path(parent, name).stat().st_size
    return total
