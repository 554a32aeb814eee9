from __future__ import annotations

import io
import struct
import zipfile
import zlib

import pytest

from service.errors import BrokenArchive, TooManyBytes, TooManyPictures
from service.inputs.archive import unpack
from service.inputs.body import SentFile
from service.settings import Limits
from tests.service.inputs.test_video import video
from tests.service.pictures import encode, make_picture

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
    files, skipped = unpack(sent, LIMITS)
    assert skipped == []
    for file in files:
        with file.file:
            found.append((file.name, file.file.read()))
    assert found == [("b/2.jpg", b"two"), ("a.jpg", b"one")]


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


PICTURE = encode(make_picture(40, 30))


def names(*sent: tuple[str, bytes]) -> tuple[list[str], list[str]]:
    """Of the pictures, and of what was skipped."""
    pictures, skipped = unpack(archive(*sent), LIMITS)
    for picture in pictures:
        picture.file.close()
    return [picture.name for picture in pictures], skipped


def test_names_keep_their_folders() -> None:
    sent = [(name, PICTURE) for name in ("left/1.png", "right\\1.png", "./1.png")]
    assert names(*sent)[0] == ["left/1.png", "right/1.png", "1.png"]


def test_pictures_are_counted_and_other_files_are_skipped_and_named() -> None:
    others = [(f"{i}.json", b"{}") for i in range(40)]
    others += [("Thumbs.db", b"\xd0\xcf\x11\xe0"), ("readme.txt", b"hello"), ("empty", b"")]
    others += [("IMG_1.MOV", video(seconds=1).file.read()), ("a.docx", b"PK\x03\x04" + bytes(30))]
    found, skipped = names(*others, ("IMG_1.png", PICTURE), ("2", PICTURE))
    assert found == ["IMG_1.png", "2"]
    assert skipped == [name for name, _ in others]


def test_a_file_that_is_no_picture_may_be_larger_than_pictures_may() -> None:
    assert names(("film.mov", bytes(10_000_000)), ("a.png", PICTURE)) == (["a.png"], ["film.mov"])


def test_depth_maps_beside_pictures_are_skipped_unless_every_picture_is_wanted() -> None:
    sent = [(f"{folder}/{i}.png", PICTURE) for folder in ("depth", "images") for i in (1, 2)]
    assert names(*sent) == (["images/1.png", "images/2.png"], ["depth/1.png", "depth/2.png"])
    pictures, skipped = unpack(archive(*sent), LIMITS, every=True)
    assert ([picture.name for picture in pictures], skipped) == ([name for name, _ in sent], [])
    for picture in pictures:
        picture.file.close()


def test_what_is_called_a_picture_is_never_skipped() -> None:
    assert names(("a.jpg", b"damaged"), ("b.HEIC", b"")) == (["a.jpg", "b.HEIC"], [])


@pytest.mark.parametrize("name", ["12:30:05.png", "IMG 1: the kitchen.png", "a:b/c:d.png"])
def test_a_colon_in_a_name_is_no_drive(name: str) -> None:
    assert names((name, PICTURE))[0] == [name]


@pytest.mark.parametrize("name", [".", "./.", "..."])
def test_a_name_of_nothing_is_refused(name: str) -> None:
    with pytest.raises(BrokenArchive, match="names no file"):
        unpack(archive((name, PICTURE)), LIMITS)


def encoded_names(encoding: str, *names: str) -> SentFile:
    """An archive whose names are in an encoding that it does not state."""
    content = archive(
        *((f"{i}" * len(name.encode(encoding)), PICTURE) for i, name in enumerate(names))
    )
    data = content.file.read()
    for i, name in enumerate(names):
        raw = name.encode(encoding)
        data = data.replace(f"{i}".encode() * len(raw), raw)
    return SentFile("scene.zip", io.BytesIO(data))


def test_names_in_utf_8_are_read_also_where_the_archive_does_not_say_so() -> None:
    pictures, _ = unpack(encoded_names("utf-8", "Küche/ü 1.png", "写真/2.png"), LIMITS)
    assert [picture.name for picture in pictures] == ["Küche/ü 1.png", "写真/2.png"]
    for picture in pictures:
        picture.file.close()


def test_a_name_that_is_marked_as_utf_8_and_is_not_is_refused_in_plain_words() -> None:
    data = archive(("é.png", PICTURE)).file.read().replace("é".encode(), b"\xe9\xff")
    with pytest.raises(BrokenArchive, match="marked as UTF-8 and is not; pack it with another"):
        unpack(SentFile("scene.zip", io.BytesIO(data)), LIMITS)


@pytest.mark.parametrize(("encoding", "name"), [("latin-1", "zür.png"), ("shift-jis", "写真.png")])
def test_names_in_an_unknown_encoding_are_no_reason_to_refuse(encoding: str, name: str) -> None:
    pictures, skipped = unpack(encoded_names(encoding, name), LIMITS)
    assert skipped == []
    (picture,) = pictures
    assert picture.name.endswith(".png")
    picture.file.close()


@pytest.mark.parametrize(
    ("encoding", "name", "shown"),
    [
        ("shift-jis", "写真/表.png", "Ä╩É^/ò_.png"),
        ("shift-jis", "ソファ1.png", "â_âtâ@1.png"),
        ("big5", "成功.png", "ª¿Ñ_.png"),
    ],
)
def test_a_backslash_that_is_half_a_letter_hides_no_picture(
    encoding: str, name: str, shown: str
) -> None:
    """The second byte of some letters is a backslash; a folder of it would hold `.png`, hidden."""
    pictures, skipped = unpack(encoded_names(encoding, name, "2.png"), LIMITS)
    assert ([picture.name for picture in pictures], skipped) == ([shown, "2.png"], [])
    for picture in pictures:
        picture.file.close()


def test_a_name_that_stands_in_a_unicode_path_field_is_read_there() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for stored, name in ((b"????.png", "写真.png"), (b"K?che.png", "Küche.png")):
            field = struct.pack("<BI", 1, zlib.crc32(b"????.png")) + name.encode()
            entry = zipfile.ZipInfo(stored.decode())
            entry.extra = struct.pack("<HH", 0x7075, len(field)) + field
            file.writestr(entry, PICTURE)
    pictures, _ = unpack(SentFile("scene.zip", buffer), LIMITS)
    # the second field is that of another name, so its file was named anew since
    assert [picture.name for picture in pictures] == ["写真.png", "K?che.png"]
    for picture in pictures:
        picture.file.close()


def zip64(content: bytes) -> SentFile:
    """An archive with the records of zip64 at its end."""
    at = content.rindex(b"PK\x05\x06")
    entries, size, offset = struct.unpack_from("<HII", content, at + 10)
    record = struct.pack(
        "<4sQHHIIQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, entries, entries, size, offset
    )
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, at, 1)
    end = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, *[0xFFFF] * 2, *[0xFFFFFFFF] * 2, 0)
    return SentFile("scene.zip", io.BytesIO(content[:at] + record + locator + end))


def test_a_small_archive_in_the_format_of_large_ones_is_taken() -> None:
    pictures, _ = unpack(zip64(archive(("a/b.png", PICTURE)).file.read()), LIMITS)
    (picture,) = pictures
    assert (picture.name, picture.file.read()) == ("a/b.png", PICTURE)
    picture.file.close()


def test_the_format_of_large_archives_is_no_way_round_the_limit_on_the_directory() -> None:
    """The plain record at the end may say little; what counts is what is read."""
    content = archive(*((f"{i:060d}.jpg", b"") for i in range(12_000))).file.read()
    at = content.rindex(b"PK\x05\x06")
    (size,) = struct.unpack_from("<I", content, at + 12)
    sent = bytearray(zip64(content).file.read())
    struct.pack_into("<II", sent, len(sent) - 10, 100, 100)
    with pytest.raises(BrokenArchive, match=f"a directory of {size} bytes"):
        unpack(SentFile("scene.zip", io.BytesIO(bytes(sent))), LIMITS)


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


def test_what_is_no_picture_may_be_compressed_in_any_way() -> None:
    content = bytearray(archive(("IMG_1.MOV", bytes(100)), ("a.png", PICTURE)).file.read())
    for at in (8, content.index(b"PK\x01\x02") + 10):
        struct.pack_into("<H", content, at, 9)  # Deflate64
    pictures, skipped = unpack(SentFile("scan.zip", io.BytesIO(bytes(content))), LIMITS)
    assert ([picture.name for picture in pictures], skipped) == (["a.png"], ["IMG_1.MOV"])
    for picture in pictures:
        picture.file.close()


def test_entries_whose_sizes_follow_them_are_read() -> None:
    """As programs write that stream an archive: sizes stand behind each entry."""

    class Stream(io.RawIOBase):
        def __init__(self) -> None:
            self.written = b""

        def writable(self) -> bool:
            return True

        def write(self, data: bytes) -> int:  # type: ignore[override]
            self.written += bytes(data)
            return len(data)

    stream = Stream()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as file:  # type: ignore[arg-type]
        file.writestr("a/1.png", PICTURE)
        file.writestr("a/notes.txt", b"hello")
    assert stream.written[6] & 8  # the flag that says so
    pictures, skipped = unpack(SentFile("scan.zip", io.BytesIO(stream.written)), LIMITS)
    (picture,) = pictures
    assert (picture.name, picture.file.read(), skipped) == ("a/1.png", PICTURE, ["a/notes.txt"])
    picture.file.close()


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
