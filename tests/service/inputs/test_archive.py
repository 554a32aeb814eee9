from __future__ import annotations

import io
import struct
import zipfile

import pytest

from service.errors import BrokenArchive, TooManyBytes, TooManyPictures
from service.inputs.archive import unpack
from service.inputs.body import SentFile
from service.settings import Limits

LIMITS = Limits(max_images=4, max_image_bytes=100_000, max_unpacked_bytes=250_000)


def archive(*entries: tuple[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> SentFile:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        for name, content in entries:
            file.writestr(name, content)
    buffer.seek(0)
    return SentFile("scene.zip", buffer)


def test_files_come_out_in_order_without_folders_and_hidden_ones() -> None:
    sent = archive(
        ("b/", b""),
        ("b/2.jpg", b"two"),
        ("__MACOSX/b/._2.jpg", b"x"),
        (".DS_Store", b"x"),
        ("a.jpg", b"one"),
    )
    found = []
    for file in unpack(sent, LIMITS):
        with file.file:
            found.append((file.name, file.file.read()))
    assert found == [("2.jpg", b"two"), ("a.jpg", b"one")]


@pytest.mark.parametrize(
    "name", ["../a.jpg", "/etc/passwd", "b/../../a.jpg", "..\\a.jpg", "C:\\a.jpg", "\\\\host\\a"]
)
def test_a_name_that_leads_out_is_refused(name: str) -> None:
    with pytest.raises(BrokenArchive, match="leads out"):
        unpack(archive((name, b"x")), LIMITS)


def test_a_bomb_is_refused_by_its_stated_size_and_never_unpacked() -> None:
    with pytest.raises(TooManyBytes):
        unpack(archive(("a.jpg", bytes(50_000_000))), LIMITS)


def test_a_bomb_that_lies_about_its_size_is_cut_off() -> None:
    sent = archive(("a.jpg", bytes(50_000_000)))
    content = bytearray(sent.file.read())
    # local and central header: 10 bytes, they say
    for at in (22, content.rindex(b"PK\x01\x02") + 24):
        struct.pack_into("<I", content, at, 10)
    with pytest.raises((BrokenArchive, TooManyBytes)):
        unpack(SentFile("bomb.zip", io.BytesIO(bytes(content))), LIMITS)


def test_many_small_files_are_bounded_together() -> None:
    with pytest.raises(TooManyBytes):
        unpack(archive(*((f"{i}.jpg", bytes(90_000)) for i in range(4))), LIMITS)
    with pytest.raises(TooManyPictures):
        unpack(archive(*((f"{i}.jpg", b"x") for i in range(5))), LIMITS)


def test_a_directory_of_many_entries_is_refused_before_it_is_read() -> None:
    with pytest.raises(BrokenArchive, match="directory"):
        unpack(
            archive(
                *((f"{i:060d}.jpg", b"") for i in range(12_000)), compression=zipfile.ZIP_STORED
            ),
            LIMITS,
        )


def test_an_archive_in_an_archive_is_refused() -> None:
    inner = archive(("a.jpg", b"x")).file.read()
    with pytest.raises(BrokenArchive, match="another archive"):
        unpack(archive(("inner.jpg", inner)), LIMITS)


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_rare_compression_is_refused(compression: int) -> None:
    with pytest.raises(BrokenArchive, match="plain zip"):
        unpack(archive(("a.jpg", b"x" * 100), compression=compression), LIMITS)


def test_an_encrypted_archive_is_refused() -> None:
    content = bytearray(archive(("a.jpg", b"x")).file.read())
    for at in (6, content.rindex(b"PK\x01\x02") + 8):
        content[at] |= 1
    with pytest.raises(BrokenArchive, match="encrypted"):
        unpack(SentFile("secret.zip", io.BytesIO(bytes(content))), LIMITS)


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.9, 0.99])
def test_a_truncated_archive_is_refused(keep: float) -> None:
    whole = archive(("a.jpg", bytes(range(256)) * 40)).file.read()
    with pytest.raises(BrokenArchive):
        unpack(SentFile("cut.zip", io.BytesIO(whole[: int(keep * len(whole))])), LIMITS)
