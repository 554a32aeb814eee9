"""Pictures out of a zip archive, unpacked with every count bounded and no name used as a path."""

from __future__ import annotations

import struct
import tempfile
import zipfile
import zlib
from pathlib import PurePosixPath
from typing import BinaryIO

from service.errors import BrokenArchive, TooManyBytes
from service.inputs.body import SentFile, display_name, too_many_pictures
from service.inputs.signatures import kind_of
from service.settings import Limits

_SPOOL_BYTES = 2**20
# some 20,000 entries; zipfile reads the whole directory before we could count
_DIRECTORY_BYTES = 2**20
_END = b"PK\x05\x06"
_END_BYTES = 22 + 65535
_HIDDEN = ("__MACOSX",)


def unpack(archive: SentFile, limits: Limits) -> list[SentFile]:
    """The archive's files in its own order, spooled; folders and hidden files are passed over.

    Raises BrokenArchive, TooManyPictures or TooManyBytes; then nothing stays open.
    """
    _check_directory(archive)
    unpacked: list[SentFile] = []
    left = limits.max_unpacked_bytes
    try:
        with zipfile.ZipFile(archive.file) as folder:
            entries = [
                entry for entry in folder.infolist() if not entry.is_dir() and not _is_hidden(entry)
            ]
            if len(entries) > limits.max_images:
                raise too_many_pictures(limits)
            for entry in entries:
                _check_entry(archive, entry, limits)
                file = _read(folder, entry, min(left, limits.max_image_bytes), limits)
                unpacked.append(SentFile(display_name(entry.filename, len(unpacked)), file))
                left -= file.seek(0, 2)
                file.seek(0)
                if kind_of(file) == "archive":
                    raise BrokenArchive(
                        f"{archive.name} holds another archive; send the pictures themselves."
                    )
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
    return unpacked


def _check_directory(archive: SentFile) -> None:
    size = archive.file.seek(0, 2)
    archive.file.seek(max(0, size - _END_BYTES))
    tail = archive.file.read()
    archive.file.seek(0)
    at = tail.rfind(_END)
    if at < 0 or len(tail) < at + 22:
        raise BrokenArchive(
            f"{archive.name} can't be unpacked: it has no directory; it may be cut off."
        )
    (directory_bytes,) = struct.unpack_from("<I", tail, at + 12)
    if directory_bytes > _DIRECTORY_BYTES:
        raise BrokenArchive(
            f"{archive.name} has a directory of {directory_bytes} bytes; that is no set of "
            "pictures."
        )


def _check_entry(archive: SentFile, entry: zipfile.ZipInfo, limits: Limits) -> None:
    path = _path(entry)
    if path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
        raise BrokenArchive(
            f"{archive.name} has the name {str(path)[:120]!r}, which leads out of its folder."
        )
    if entry.flag_bits & 0x1:
        raise BrokenArchive(f"{archive.name} is encrypted.")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise BrokenArchive(
            f"{archive.name} is compressed in a way that is not read here; use plain zip."
        )
    if entry.file_size > limits.max_image_bytes:
        raise _too_large(limits)


def _read(folder: zipfile.ZipFile, entry: zipfile.ZipInfo, limit: int, limits: Limits) -> BinaryIO:
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


def _path(entry: zipfile.ZipInfo) -> PurePosixPath:
    return PurePosixPath(entry.orig_filename.replace("\\", "/"))


def _is_hidden(entry: zipfile.ZipInfo) -> bool:
    parts = _path(entry).parts
    return ".." not in parts and any(part.startswith(".") or part in _HIDDEN for part in parts)


def _close(files: list[SentFile]) -> None:
    for file in files:
        file.file.close()
