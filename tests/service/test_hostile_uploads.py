"""What a malicious client might send. Each is answered with a documented 4xx (or works, where it is
merely odd), memory stays bounded, and afterwards the service still answers correctly."""

from __future__ import annotations

import io
import random
import socket
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from service.inference.memory import PeakMemory
from tests.service.pictures import encode, make_picture
from tests.service.running import PATIENCE, Running, Serve, wait_until

DOCUMENTED = {400, 406, 408, 413, 415, 422, 429}
MOST_MEMORY = 400 * 2**20


@pytest.fixture(scope="module")
def service(serve: Serve) -> Running:
    return serve(
        max_images=8,
        max_image_bytes=2_000_000,
        max_total_bytes=6_000_000,
        max_pixels=2_000_000,
        max_unpacked_bytes=8_000_000,
        upload_timeout=2,
        video_timeout=10,
    )


@pytest.fixture(scope="module", autouse=True)
def memory_stays_bounded_and_the_service_works_on(service: Running) -> Iterator[None]:
    memory = PeakMemory("cpu")
    with memory.measured():
        yield
    assert memory.bytes < MOST_MEMORY
    answer = service.client.post(
        "/reconstruct", files=[("images", ("a.png", encode(make_picture(seed=99)), "image/png"))]
    )
    assert answer.status_code == 200
    assert answer.json()["pictures"][0]["original_size"] == {"height": 90, "width": 120}
    assert service.metric("quantvggt_queue_depth") == 0
    # a job's input goes right after its answer
    wait_until(lambda: not any((service.data_dir / "incoming").iterdir()))


def refused(answer: httpx.Response) -> None:
    assert answer.status_code in DOCUMENTED, f"{answer.status_code}: {answer.text[:300]}"
    assert answer.headers["content-type"] == "application/problem+json"
    assert "Traceback" not in answer.text
    assert len(answer.content) < 20_000


def send(
    service: Running, data: bytes, name: str = "a.png", field: str = "images"
) -> httpx.Response:
    return service.client.post(
        "/reconstruct", files=[(field, (name, data, "application/octet-stream"))]
    )


def noise(width: int = 120, height: int = 90) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


WHOLE = {format: encode(noise(), format) for format in ("JPEG", "PNG", "WEBP", "HEIF")}


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(
    width: int,
    height: int,
    depth: int = 8,
    color: int = 2,
    pixels: bytes = b"",
    before: bytes = b"",
) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    body = (
        png_chunk(b"IHDR", header)
        + before
        + png_chunk(b"IDAT", zlib.compress(pixels))
        + png_chunk(b"IEND", b"")
    )
    return b"\x89PNG\r\n\x1a\n" + body


def zipped(*entries: tuple[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return buffer.getvalue()


@pytest.mark.parametrize("share", [0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])
@pytest.mark.parametrize("format", list(WHOLE))
def test_truncated(service: Running, format: str, share: float) -> None:
    refused(send(service, WHOLE[format][: int(share * len(WHOLE[format]))]))


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("format", list(WHOLE))
def test_with_bytes_overwritten(service: Running, format: str, seed: int) -> None:
    """Damage that a decoder notices is refused; what it doesn't notice is a picture, if an odd
    one."""
    chance = random.Random(seed)
    data = bytearray(WHOLE[format])
    for _ in range(40):
        data[chance.randrange(len(data))] = chance.randrange(256)
    answer = send(service, bytes(data))
    if answer.status_code != 200:
        refused(answer)


@pytest.mark.parametrize(
    ("width", "height"),
    [
        (30_000, 30_000),
        (65_535, 65_535),
        (2**31 - 1, 2**31 - 1),
        (2**31 - 1, 1),
        (1, 2**31 - 1),
        (0, 0),
        (0, 10),
        (2_000, 1_001),
    ],
)
def test_with_a_header_of_absurd_size(service: Running, width: int, height: int) -> None:
    refused(send(service, png(width, height, pixels=bytes(1000))))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(png(100, 100, depth=3), id="a bit depth that does not exist"),
        pytest.param(png(100, 100, color=7), id="a colour type that does not exist"),
        pytest.param(png(1000, 1000, pixels=b"x"), id="too few pixels"),
        pytest.param(
            png(50, 50, before=png_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(50_000_000)))),
            id="a text bomb",
        ),
        pytest.param(
            png(50, 50, before=png_chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(50_000_000)))),
            id="a profile bomb",
        ),
        pytest.param(b"\x89PNG\r\n\x1a\n" + b"\xff" * 500, id="a magic number and nothing"),
        pytest.param(b"\xff\xd8\xff" + b"\xff" * 500, id="a JPEG of markers"),
        pytest.param(
            b"\xff\xd8\xff\xe1\xff\xffExif\0\0" + b"II*\0\xff\xff\xff\xff" + bytes(65527),
            id="EXIF that points away",
        ),
        pytest.param(
            b"RIFF\xff\xff\xff\xffWEBPVP8X" + b"\xff" * 100, id="a WebP of the largest size"
        ),
        pytest.param(b"RIFF\x04\0\0\0WEBP", id="an empty WebP"),
        pytest.param(b"\0\0\0\x18ftypheic" + bytes(200), id="an empty HEIC"),
        pytest.param(
            b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0\0\xff\xffmeta" + bytes(500),
            id="a HEIC with a wild box",
        ),
    ],
)
def test_broken_on_purpose(service: Running, data: bytes) -> None:
    refused(send(service, data))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        b"\0" * 10_000,
        b"GIF89a" + bytes(100),
        b"BM" + bytes(100),
        b"II*\0" + bytes(100),
        b"MM\0*" + bytes(100),
        b"%PDF-1.7\n",
        b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
        b"<?xml version='1.0'?>",
        b"#!/bin/sh\n",
        b"\x7fELF" + bytes(100),
        b"MZ" + bytes(100),
        b"\x1f\x8b\x08" + bytes(100),
        b"BZh9" + bytes(100),
        b"Rar!\x1a\x07",
        b"7z\xbc\xaf\x27\x1c",
        b"%!PS-Adobe-3.0 EPSF-3.0\n",
        b"P6\n9999 9999\n255\n",
        b"\0\0\x01\0" + bytes(100),
        b"8BPS" + bytes(100),
        b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(100),
        b"SIMPLE  =" + bytes(3000),
        b"\x80\x04\x95pickle",
        b"FLIF",
        b"qoif" + bytes(40),
        "πικτυρε".encode(),
        b"A" * 1_000_000,
    ],
)
def test_that_is_no_picture(service: Running, data: bytes) -> None:
    refused(send(service, data))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(zipped(("a.png", bytes(100_000_000))), id="a bomb"),
        pytest.param(
            zipped(*((f"{i}.png", bytes(1_900_000)) for i in range(8))), id="many smaller bombs"
        ),
        pytest.param(zipped(*((f"{i}.png", b"") for i in range(9))), id="too many"),
        pytest.param(zipped(*((f"{i:05d}.png", b"") for i in range(10_000))), id="ten thousand"),
        pytest.param(zipped(("../../etc/cron.d/x", WHOLE["PNG"])), id="a path upward"),
        pytest.param(zipped(("/etc/passwd", WHOLE["PNG"])), id="an absolute path"),
        pytest.param(zipped(("C:\\windows\\x.png", WHOLE["PNG"])), id="a drive"),
        pytest.param(zipped(("x.png", zipped(("y.png", b"z")))), id="nested"),
        pytest.param(
            zipped(("x.zip", zipped(("y.zip", zipped(("z.png", b"")))))), id="nested twice"
        ),
        pytest.param(zipped(("a.png", b"text")), id="text inside"),
        pytest.param(zipped(("a.png", b"")), id="an empty file inside"),
        pytest.param(zipped(), id="an empty archive"),
        pytest.param(zipped(("folder/", b"")), id="only a folder"),
        pytest.param(
            zipped(("a.png", WHOLE["PNG"]), compression=zipfile.ZIP_LZMA), id="another compression"
        ),
        pytest.param(zipped(("a.png", WHOLE["PNG"]))[:-30], id="cut off at the end"),
        pytest.param(zipped(("a.png", WHOLE["PNG"]))[30:], id="cut off at the start"),
        pytest.param(b"PK\x03\x04" + b"\xff" * 1000, id="a header of ones"),
        pytest.param(b"PK\x05\x06" + b"\xff" * 18, id="an end of ones"),
        pytest.param(
            b"PK\x05\x06" + bytes(12) + b"\xff\xff\xff\x7f\0\0", id="a directory far away"
        ),
    ],
)
@pytest.mark.parametrize("field", ["images", "archive"])
def test_archives(service: Running, data: bytes, field: str) -> None:
    refused(send(service, data, "a.zip", field))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\0\0\0\x18ftypisom" + bytes(5000), id="nothing"),
        pytest.param(
            b"\0\0\0\x18ftypisom\0\0\0\0isomavc1" + b"\xff\xff\xff\xffmoov" + bytes(500),
            id="a wild box",
        ),
        pytest.param(b"\x1a\x45\xdf\xa3" + b"\xff" * 5000, id="Matroska of ones"),
        pytest.param(b"RIFF\xff\xff\xff\xffAVI LIST" + bytes(5000), id="an AVI of nothing"),
        pytest.param(b"\0\0\0\x18ftypisom" + random.Random(0).randbytes(50_000), id="noise"),
        pytest.param(b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", id="a playlist"),
        pytest.param(b"ffconcat version 1.0\nfile /etc/passwd\n", id="a concatenation"),
    ],
)
def test_videos(service: Running, data: bytes) -> None:
    refused(send(service, data, "a.mp4", "video"))


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd",
        "/dev/null",
        "a\0b.png",
        "x" * 5000,
        "\u202egnp.exe",
        "a\r\nX: y.png",
        "%2e%2e/x",
        "CON",
        ".",
        "",
        "a/b\\c",
        "'; DROP TABLE jobs; --",
    ],
)
def test_odd_names_are_only_echoed(service: Running, name: str) -> None:
    answer = send(service, encode(make_picture()), name)
    if answer.status_code != 200:
        refused(answer)
        return
    shown = answer.json()["pictures"][0]["filename"]
    assert len(shown) <= 120
    assert shown.isprintable()
    assert not {"", ".", ".."} & set(shown.split("/"))
    assert "\\" not in shown


@pytest.mark.parametrize(
    ("mode", "format"),
    [
        ("CMYK", "JPEG"),
        ("L", "JPEG"),
        ("L", "PNG"),
        ("LA", "PNG"),
        ("P", "PNG"),
        ("1", "PNG"),
        ("RGBA", "PNG"),
        ("RGBA", "WEBP"),
        ("I;16", "PNG"),
    ],
)
def test_odd_but_honest_pixel_modes_work(service: Running, mode: str, format: str) -> None:
    picture = make_picture()
    if mode == "I;16":
        picture = Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257)
    else:
        picture = picture.convert(mode)
    assert send(service, encode(picture, format)).status_code == 200


@pytest.mark.parametrize("format", ["WEBP", "PNG"])
def test_of_an_animation_the_first_picture_counts(service: Running, format: str) -> None:
    frames = [make_picture(seed=seed) for seed in range(30)]
    answer = send(service, encode(frames[0], format, save_all=True, append_images=frames[1:]))
    assert answer.status_code == 200
    assert len(answer.json()["pictures"]) == 1


@pytest.mark.parametrize("orientation", [0, 9, 255, 65535])
def test_an_orientation_that_does_not_exist_is_passed_over(
    service: Running, orientation: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    answer = send(service, encode(make_picture(), "JPEG", exif=exif))
    assert answer.status_code == 200
    assert answer.json()["pictures"][0]["original_size"] == {"height": 90, "width": 120}


def test_a_picture_that_is_also_an_archive_is_taken_as_a_picture(service: Running) -> None:
    polyglot = encode(make_picture(), "JPEG") + zipped(("evil.png", bytes(100_000_000)))
    assert send(service, polyglot).status_code == 200


def test_an_archive_that_is_also_a_picture_is_taken_as_an_archive(service: Running) -> None:
    answer = send(
        service,
        zipped(("a.jpg", encode(make_picture(), "JPEG"))) + encode(make_picture(), "JPEG"),
        "a.jpg",
    )
    if answer.status_code != 200:
        refused(answer)


def test_text_chunks_within_reason_are_no_problem(service: Running) -> None:
    text = PngInfo()
    text.add_text("comment", "x" * 10_000)
    assert send(service, encode(make_picture(), pnginfo=text)).status_code == 200


# Bodies


def raw(service: Running, head: bytes, body: bytes = b"", patience: float = PATIENCE) -> bytes:
    with socket.create_connection(("127.0.0.1", service.port)) as connection:
        connection.settimeout(patience)
        try:
            connection.sendall(head + body)
            return connection.recv(4096)
        except (ConnectionResetError, BrokenPipeError):
            return b""


def multipart(*parts: bytes) -> bytes:
    return b"".join(b"--x\r\n" + part + b"\r\n" for part in parts) + b"--x--\r\n"


def head(length: int | str, more: bytes = b"") -> bytes:
    return (
        b"POST /reconstruct HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
        b"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: %s\r\n"
        % str(length).encode()
        + more
        + b"\r\n"
    )


PART = b'Content-Disposition: form-data; name="images"; filename="a.png"\r\n\r\n'


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        ("10", b" 400 "),
        ("99999999999", b" 413 "),
        ("-1", b" 400 "),
        ("abc", b" 400 "),
        ("0", b" 400 "),
        ("5, 7", b" 400 "),
    ],
)
def test_a_content_length_that_lies_gets_an_answer(
    service: Running, length: str, expected: bytes
) -> None:
    answer = raw(service, head(length), multipart(PART + encode(make_picture())))
    assert expected in answer[:20]


def test_a_content_length_that_promises_more_times_out(service: Running) -> None:
    body = multipart(PART + encode(make_picture()))
    assert b" 408 " in raw(service, head(len(body) + 100), body)[:20]


def test_a_body_that_trickles_is_cut_off_at_the_time_limit(service: Running) -> None:
    with socket.create_connection(("127.0.0.1", service.port)) as connection:
        connection.settimeout(PATIENCE)
        connection.sendall(head(1000) + b"--x\r\n")
        answer = b""
        while not answer:
            connection.settimeout(0.2)
            try:
                answer = connection.recv(100)
            except TimeoutError:
                connection.sendall(b"-")
        assert b" 408 " in answer


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"--x--\r\n", id="no parts"),
        pytest.param(b"--y\r\n\r\n--y--\r\n", id="another boundary"),
        pytest.param(multipart(*[PART + b"x"] * 10_000), id="ten thousand parts"),
        pytest.param(
            multipart(*[b'Content-Disposition: form-data; name="mode"\r\n\r\nfit'] * 10_000),
            id="ten thousand options",
        ),
        pytest.param(
            multipart(b'Content-Disposition: form-data; name="cameras"\r\n\r\n' + b"[" * 2_000_000),
            id="a huge option",
        ),
        pytest.param(
            multipart(b"X-Header: " + b"x" * 1_000_000 + b"\r\n\r\nx"), id="a huge part header"
        ),
        pytest.param(
            multipart(b"".join(b"X-%d: y\r\n" % i for i in range(20_000)) + b"\r\nx"),
            id="many part headers",
        ),
        pytest.param(
            multipart(b"Content-Disposition: form-data\r\n\r\nx"), id="a part without a name"
        ),
        pytest.param(
            multipart(b'Content-Disposition: form-data; name="\xff\xfe"\r\n\r\nx'),
            id="a name that is no text",
        ),
        pytest.param(
            multipart(b'Content-Disposition: form-data; name="mode"\r\n\r\n\xff\xfe'),
            id="an option that is no text",
        ),
        pytest.param(
            multipart(b'Content-Disposition: form-data; name="masks"; filename="m"\r\n\r\nx'),
            id="only a mask",
        ),
        pytest.param(b"\r\n" * 100_000, id="a preamble of blank lines"),
        pytest.param(b"x" * 3_000_000, id="a preamble of letters"),
        pytest.param(multipart(PART + b"x")[:-8], id="no closing boundary"),
    ],
)
def test_bodies(service: Running, body: bytes) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    refused(service.client.post("/reconstruct", content=body, headers=headers))


@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/form-data",
        "multipart/form-data; boundary=",
        f"multipart/form-data; boundary={'b' * 5000}",
        "multipart/mixed; boundary=x",
        "multipart/form-data; charset=utf-32; boundary=x",
        "text/plain",
        "application/json",
        "application/xml",
        "image/jpeg",
        'multipart/form-data; boundary="x',
        "x",
    ],
)
def test_content_types(service: Running, content_type: str) -> None:
    body = multipart(b'Content-Disposition: form-data; name="mode"\r\n\r\nfit')
    answer = service.client.post(
        "/reconstruct", content=body, headers={"Content-Type": content_type}
    )
    refused(answer)


def test_an_archive_on_disk_whose_directory_lies_elsewhere_than_it_says(service: Running) -> None:
    data = bytearray(zipped(("a.png", WHOLE["PNG"] * 3), compression=zipfile.ZIP_STORED))
    assert len(data) > 2**16  # so that it is a file and not in memory
    end = data.rindex(b"PK\5\6")
    begin = struct.unpack_from("<I", data, end + 16)[0]
    struct.pack_into("<I", data, end + 16, begin + 2**20)
    refused(send(service, bytes(data), "a.zip", "archive"))


@pytest.mark.parametrize("charset", ["undefined", "idna", "punycode", "utf-16", "none-such"])
def test_a_form_is_utf8_whatever_codec_it_asks_for(service: Running, charset: str) -> None:
    """Some of Python's codecs raise what nobody expects, and some take minutes for one option."""
    picture = PART.replace(b"a.png", "kü-che.png".encode()) + WHOLE["PNG"]
    answer = service.client.post(
        "/reconstruct",
        content=multipart(b'Content-Disposition: form-data; name="mode"\r\n\r\ncrop', picture),
        headers={"Content-Type": f"multipart/form-data; boundary=x; charset={charset}"},
    )
    assert answer.status_code == 200, answer.text[:300]
    assert answer.json()["pictures"][0]["filename"] == "kü-che.png"
    long_name = PART.replace(b'filename="a.png"', f"filename*={charset}''k-che.png".encode())
    answer = service.client.post(
        "/reconstruct",
        content=multipart(long_name + WHOLE["PNG"]),
        headers={"Content-Type": "multipart/form-data; boundary=x"},
    )
    assert answer.json()["pictures"][0]["filename"] == "k-che.png"


def test_nothing_of_all_this_was_written_outside_the_data_folder(service: Running) -> None:
    assert not Path("/etc/cron.d/x").exists()
    assert {path.name for path in service.data_dir.iterdir()} <= {
        "incoming",
        "results",
        "lock",
        "jobs.sqlite3",
        "jobs.sqlite3-wal",
        "jobs.sqlite3-shm",
    }
