"""What people really have, through HTTP: each comes out as the plain picture of the same scene
does."""

from __future__ import annotations

import io
import json
import socket
import tempfile
import unicodedata
import zipfile
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pycolmap
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.model.scene.test_pictures import COLOUR, png16
from tests.service.inputs.test_archive import archive, encoded_names
from tests.service.inputs.test_video import film, video
from tests.service.pictures import encode, make_picture
from tests.service.running import Running, Serve, problem

PLAIN = make_picture()
OTHER = encode(make_picture(seed=1))


@pytest.fixture(scope="module")
def service(serve: Serve) -> Running:
    return serve(max_images=8)


def sent(
    service: Running,
    *files: tuple[str, bytes],
    masks: tuple[tuple[str, bytes], ...] = (),
    **data: Any,
) -> dict[str, Any]:
    answer = ask(service, *files, masks=masks, **data)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def ask(
    service: Running,
    *files: tuple[str, bytes],
    masks: tuple[tuple[str, bytes], ...] = (),
    **data: Any,
) -> httpx.Response:
    form = [("images", file) for file in files] + [("masks", mask) for mask in masks]
    return service.client.post("/reconstruct", files=form, data=data)


def seen(service: Running, document: dict[str, Any], index: int = 0) -> NDArray[np.uint8]:
    """What the network saw of a picture."""
    link = document["pictures"][index]["links"]["picture"]
    with Image.open(io.BytesIO(service.client.get(link).content)) as picture:
        return np.asarray(picture.convert("RGB"))


def names(document: dict[str, Any]) -> list[str]:
    return [picture["filename"] for picture in document["pictures"]]


def grey16() -> bytes:
    return encode(Image.fromarray(np.asarray(PLAIN.convert("L")).astype(np.uint16) * 257))


def colour16() -> bytes:
    return png16(np.asarray(PLAIN).astype(np.uint16) * 257, COLOUR).getvalue()


def cut_out(mode: str) -> Image.Image:
    picture = PLAIN.convert(mode)
    alpha = Image.new("L", picture.size, 255)
    alpha.paste(0, (60, 0, 120, 90))
    picture.putalpha(alpha)
    return picture


def with_one_colour_clear() -> bytes:
    picture = PLAIN.convert("P", palette=Image.Palette.ADAPTIVE, colors=16)
    return encode(picture, transparency=3)


def as_rgba(data: bytes) -> bytes:
    with Image.open(io.BytesIO(data)) as picture:
        return encode(picture.convert("RGBA"))


@pytest.mark.parametrize("mode", ["fit", "crop", "pad"])
@pytest.mark.parametrize(
    ("make", "same"),
    [
        pytest.param(grey16, lambda: encode(PLAIN.convert("L")), id="16-bit grey"),
        pytest.param(colour16, lambda: encode(PLAIN), id="16-bit colours"),
        pytest.param(
            lambda: encode(cut_out("LA")),
            lambda: as_rgba(encode(cut_out("LA"))),
            id="grey with alpha",
        ),
        pytest.param(
            with_one_colour_clear, lambda: as_rgba(with_one_colour_clear()), id="a clear colour"
        ),
    ],
)
def test_pictures_equal_their_8_bit_rgba(
    service: Running, make: Callable[[], bytes], same: Callable[[], bytes], mode: str
) -> None:
    first = sent(service, ("a.png", make()), ("b.png", OTHER), mode=mode)
    second = sent(service, ("a.png", same()), ("b.png", OTHER), mode=mode)
    np.testing.assert_array_equal(seen(service, first), seen(service, second))
    assert seen(service, first).std() > 10


def test_avif_is_a_picture(service: Running) -> None:
    document = sent(service, ("a.avif", encode(PLAIN, "AVIF", quality=90)))
    assert len(document["pictures"]) == 1
    plain = sent(service, ("a.png", encode(PLAIN)))
    difference = seen(service, document).astype(float) - seen(service, plain)
    assert np.abs(difference).mean() < 5
    formats = service.client.get("/capabilities").json()["input_formats"]
    assert "AVIF" in formats


def test_frames_of_an_avi_with_frames_out_of_order_are_all_there_in_order(service: Running) -> None:
    clip = film("avi", count=6, rate=2, codec="libx264", bf="2").file.read()
    document = sent(service, ("walk.avi", clip), fps=2, drop_blurred=False)
    assert names(document) == [f"walk-{i / 2:09.3f}s.png" for i in range(6)]
    lower = [seen(service, document, i)[-30:, :, 1].mean() for i in range(6)]
    assert lower == sorted(lower)


def test_folders_of_an_archive_stay_in_every_name(service: Running) -> None:
    entries = [
        (f"{side}/{number}.png", encode(make_picture(seed=seed)))
        for seed, (number, side) in enumerate(
            (number, side) for number in ("10", "9") for side in ("right", "left")
        )
    ]
    document = sent(service, ("scan.zip", archive(*entries).file.read()))
    expected = ["left/9.png", "left/10.png", "right/9.png", "right/10.png"]
    assert names(document) == expected
    for export in ("colmap.zip", "colmap-text.zip"):
        assert colmap_names(service, document, export) == expected
    frames = fetched(service, document, "transforms.json").json()["frames"]
    assert [frame["file_path"] for frame in frames] == [f"images/{name}" for name in expected]
    cameras = fetched(service, document, "cameras.json").json()["cameras"]
    assert [camera["file"] for camera in cameras] == expected


def test_pictures_of_one_name_get_different_ones_in_every_export(service: Running) -> None:
    document = sent(service, ("a b.png", encode(PLAIN)), ("a b.png", OTHER), ("a_b.png", OTHER))
    assert len(set(names(document))) == 3
    binary, text = (
        colmap_names(service, document, export) for export in ("colmap.zip", "colmap-text.zip")
    )
    frames = fetched(service, document, "transforms.json").json()["frames"]
    assert binary == text == [frame["file_path"].removeprefix("images/") for frame in frames]
    assert len(set(binary)) == 3


def fetched(service: Running, document: dict[str, Any], name: str) -> httpx.Response:
    answer = service.client.get(f"/reconstructions/{document['id']}/{name}")
    assert answer.status_code == 200
    return answer


def colmap_names(service: Running, document: dict[str, Any], export: str) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        content = fetched(service, document, export).content
        with zipfile.ZipFile(io.BytesIO(content)) as archive_of_it:
            archive_of_it.extractall(folder)
        model = pycolmap.Reconstruction(f"{folder}/sparse/0")
        return [model.images[id].name for id in sorted(model.images)]


def test_an_archive_with_other_files_gives_its_pictures_and_says_what_it_left(
    service: Running,
) -> None:
    others = [(f"c{i}.json", b"{}") for i in range(40)]
    others += [("Thumbs.db", b"\xd0\xcf\x11\xe0"), ("IMG_1.MOV", video(seconds=1).file.read())]
    content = archive(*others, ("IMG_1.png", encode(PLAIN)), ("IMG_2.png", OTHER)).file.read()
    document = sent(service, ("scan.zip", content))
    assert names(document) == ["IMG_1.png", "IMG_2.png"]
    (warning,) = document["warnings"]
    assert warning["code"] == "files-skipped"
    assert "c0.json" in warning["message"]
    assert "37 more" in warning["message"]
    planned = ask(service, ("scan.zip", content), dry_run=True).json()
    assert planned["warnings"] == [warning]


def test_names_of_an_archive_in_any_encoding_are_taken(service: Running) -> None:
    for encoding in ("utf-8", "shift-jis"):
        content = encoded_names(encoding, "写真1.png", "写真2.png").file.read()
        found = names(sent(service, ("scan.zip", content)))
        assert len(set(found)) == 2
        if encoding == "utf-8":
            assert found == ["写真1.png", "写真2.png"]


def test_masks_are_found_by_name_and_the_same_rules_hold_for_all(service: Running) -> None:
    pictures = (("b.jpg", encode(PLAIN, "JPEG")), ("a.jpg", encode(PLAIN, "JPEG")))
    left = np.zeros((90, 120), np.uint8)
    left[:, :60] = 1
    masks = (("a.jpg.png", encode(Image.fromarray(left))), ("b_mask.png", encode(cut_out("RGBA"))))
    document = sent(service, *pictures, masks=masks)
    assert document["warnings"] == []
    kept = scene_mask(service, document)
    both_left = np.zeros_like(kept[0])
    both_left[:, :48] = True  # of 96 columns
    assert (kept & ~both_left).sum() == 0
    assert kept[0].sum() == kept[1].sum() > 0
    wrong = (("a.jpg.png", masks[0][1]), ("c.jpg.png", masks[1][1]))
    problem(ask(service, *pictures, masks=wrong), 422, "invalid-option")


def scene_mask(service: Running, document: dict[str, Any]) -> NDArray[np.bool_]:
    content = fetched(service, document, "scene.npz").content
    with np.load(io.BytesIO(content)) as arrays:
        return np.asarray(arrays["mask_network"])


def test_a_mask_that_hides_everything_is_said(service: Running) -> None:
    black = encode(Image.new("L", PLAIN.size))
    document = sent(service, ("a.png", encode(PLAIN)), masks=(("a.png", black),))
    assert [warning["code"] for warning in document["warnings"]] == ["mask-hides-all"]


def test_known_cameras_in_one_place_are_refused(service: Running) -> None:
    extrinsic = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]
    cameras = json.dumps([{"extrinsic": extrinsic}] * 2)
    answer = ask(service, ("a.png", encode(PLAIN)), ("b.png", OTHER), cameras=cameras)
    assert "in one place" in problem(answer, 422, "invalid-option")["detail"]


@pytest.mark.parametrize(
    "header",
    [
        "filename*=UTF-8''K%C3%BCche%201.png",
        "filename*=\"utf-8''K%C3%BCche%201.png\"",
        "filename=\"=?utf-8?B?S8O8Y2hl?=\"; filename*=utf-8''K%C3%BCche%201.png",
        "FILENAME*=iso-8859-1'de'K%FCche%201.png",
    ],
)
def test_a_long_form_of_the_file_name_is_read(service: Running, header: str) -> None:
    body = (
        f'--x\r\nContent-Disposition: form-data; name="images"; {header}\r\n\r\n'.encode()
        + encode(PLAIN)
        + b"\r\n--x--\r\n"
    )
    head = (
        "POST /reconstruct HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
        f"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", service.port)) as connection:
        connection.sendall(head.encode() + body)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    document = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert names(document) == ["Küche 1.png"]


def test_a_manifest_finds_names_however_their_accents_are_stored(service: Running) -> None:
    composed, decomposed = (unicodedata.normalize(form, "Küche.png") for form in ("NFC", "NFD"))
    files = (("a.png", OTHER), (decomposed, encode(PLAIN)))
    assert names(sent(service, *files, manifest=json.dumps([composed]))) == [decomposed]
