"""Pictures out of a zip archive, unpacked with every count bounded and no name used as a path."""

from __future__ import annotations

import re
import struct
import tempfile
import zipfile
import zlib
from contextlib import suppress
from typing import BinaryIO

from model.scene.pictures import SUFFIXES, SYSTEM_FOLDERS
from service.errors import BrokenArchive, TooManyBytes
from service.inputs.body import SentFile, too_many_pictures
from service.inputs.companions import companions
from service.inputs.names import display_name
from service.inputs.signatures import HEAD_BYTES, kind_of_head
from service.settings import Limits

_SPOOL_BYTES = 2**16
# some 20,000 entries; zipfile reads the whole directory before we could count
_DIRECTORY_BYTES = 2**20
_UTF8_NAME = 0x800  # flag bits
_ENCRYPTED = 0x1
_UNICODE_PATH = 0x7075  # id of an extra field


def unpack(
    archive: SentFile, limits: Limits, every: bool = False
) -> tuple[list[SentFile], list[str]]:
    """The archive's pictures in its own order, spooled, and the names of files that are none of
    the scene: no pictures or, unless `every` one is wanted, `companions` of others.

    Pictures keep the path that they have in the archive as their name. Folders, hidden files and
    what systems leave in folders are passed over. Raises BrokenArchive, TooManyPictures or
    TooManyBytes; then nothing stays open.
    """
    unpacked: list[SentFile] = []
    skipped: list[str] = []
    left = limits.max_unpacked_bytes
    try:
        with zipfile.ZipFile(_Bounded(archive)) as folder:
            named = [(_path(archive, entry), entry) for entry in folder.infolist()]
            files = [(path, entry) for path, entry in named if not _is_passed_over(path)]
            aside = set() if every else companions([path for path, _ in files])
            for path, entry in files:
                if path in aside or not _is_picture(archive, folder, entry, path):
                    skipped.append(display_name(path, len(skipped)))
                    continue
                if len(unpacked) == limits.max_images:
                    raise too_many_pictures(limits)
                file = _read(folder, entry, min(left, limits.max_image_bytes), limits)
                unpacked.append(SentFile(display_name(path, len(unpacked)), file))
                left -= file.seek(0, 2)
                file.seek(0)
    except UnicodeDecodeError:
        raise BrokenArchive(
            f"{archive.name} can't be unpacked: a name in it is marked as UTF-8 and is not; pack "
            "it with another program."
        ) from None
    except (
        zipfile.BadZipFile,
        zlib.error,
        NotImplementedError,
        EOFError,
        ValueError,
        OverflowError,
    ) as error:
        _close(unpacked)
        raise BrokenArchive(f"{archive.name} can't be unpacked: {error}.") from None
    except BaseException:
        _close(unpacked)
        raise
    return unpacked, skipped


class _Bounded:
    """An archive's bytes for `zipfile`, which reads the directory in one piece, as long as either
    of the two records at the archive's end says that it is."""

    def __init__(self, archive: SentFile) -> None:
        self._archive = archive
        self.tell = archive.file.tell

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        if whence == 0 and offset < 0:  # which files on disk and in memory refuse differently
            raise BrokenArchive(
                f"{self._archive.name} can't be unpacked: its directory is not where it says."
            )
        return self._archive.file.seek(offset, whence)

    def read(self, size: int = -1) -> bytes:
        if size > _DIRECTORY_BYTES:
            raise BrokenArchive(
                f"{self._archive.name} has a directory of {size} bytes; that is no set of pictures."
            )
        return self._archive.file.read(size)


def _path(archive: SentFile, entry: zipfile.ZipInfo) -> str:
    """The entry's path, its parts separated by /. Raises BrokenArchive for one that leads out of
    the archive or nowhere."""
    path = _name(entry).replace("\\", "/")
    if path.startswith("/") or ".." in path.split("/") or re.match("[A-Za-z]:/", path):
        raise BrokenArchive(
            f"{archive.name} has the name {path[:120]!r}, which leads out of its folder."
        )
    if not path.strip("./") and not path.endswith("/"):
        raise BrokenArchive(f"{archive.name} has the name {path!r}, which names no file.")
    return path


def _name(entry: zipfile.ZipInfo) -> str:
    """The entry's name as its header says it: in UTF-8 by its flag, or by its Unicode Path field
    (APPNOTE 4.6.9); else what is valid UTF-8 is that, and the rest stays in code page 437.

    A backslash behind a letter beyond ASCII is taken for the second byte of that letter, as in
    Shift-JIS, Big5 and GBK, and becomes an underscore.
    """
    name = entry.orig_filename
    if entry.flag_bits & _UTF8_NAME:
        return name
    stored = name.encode("cp437")
    extra = entry.extra
    while len(extra) >= 4:
        kind, size = struct.unpack_from("<HH", extra)
        field, extra = extra[4 : 4 + size], extra[4 + size :]
        if kind == _UNICODE_PATH and field[:5] == struct.pack("<BI", 1, zlib.crc32(stored)):
            stored = field[5:]
            break
    with suppress(UnicodeError):
        return stored.decode("utf-8")
    return re.sub(r"(?<=[^\x00-\x7f])\\", "_", name)


def _is_passed_over(path: str) -> bool:
    """Whether it is a folder, hidden, or what a system leaves in folders."""
    return path.endswith("/") or any(
        part in SYSTEM_FOLDERS or (part.startswith(".") and part != ".") for part in path.split("/")
    )


def _is_picture(
    archive: SentFile, folder: zipfile.ZipFile, entry: zipfile.ZipInfo, path: str
) -> bool:
    """Whether the entry is a picture by its first bytes, or means to be one by its name."""
    name = path.lower()
    if entry.flag_bits & _ENCRYPTED:
        raise BrokenArchive(f"{archive.name} is encrypted; send it without a password.")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        if "." in name.rpartition("/")[2] and not name.endswith((".zip", *SUFFIXES)):
            return False  # such as a long video, which Windows compresses in its own way
        raise BrokenArchive(
            f"{archive.name} is compressed in a way that is not read here; use plain zip."
        )
    with folder.open(entry) as file:
        kind = kind_of_head(file.read(HEAD_BYTES))
    if kind == "archive" and name.endswith((".zip", *SUFFIXES)):
        raise BrokenArchive(f"{archive.name} holds another archive; send the pictures themselves.")
    return kind == "picture" or name.endswith(SUFFIXES)


def _read(folder: zipfile.ZipFile, entry: zipfile.ZipInfo, limit: int, limits: Limits) -> BinaryIO:
    if entry.file_size > limit:
        raise _too_large(limits)
    spool = tempfile.SpooledTemporaryFile(_SPOOL_BYTES)  # noqa: SIM115 - the caller closes it
    try:
        with folder.open(entry) as source:
            while chunk := source.read(2**16):
                limit -= len(chunk)
                if limit < 0:
                    raise _too_large(limits)
                spool.write(chunk)
        spool.seek(0)
    except BaseException:
        spool.close()
        raise
    return spool  # type: ignore[return-value]


def _too_large(limits: Limits) -> TooManyBytes:
    return TooManyBytes(
        f"An archive may unpack to {limits.max_unpacked_bytes} bytes, and to "
        f"{limits.max_image_bytes} a picture.",
        max_unpacked_bytes=limits.max_unpacked_bytes,
        max_image_bytes=limits.max_image_bytes,
    )


def _close(files: list[SentFile]) -> None:
    for file in files:
        file.file.close()
