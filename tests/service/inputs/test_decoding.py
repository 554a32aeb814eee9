from __future__ import annotations

import io
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.scene.pictures import upright
from service.inputs import decoding
from service.inputs.decoding import Decoder, Decoding, DecodingError
from tests.service.heif import TILE, Grid, heic
from tests.service.pictures import encode, form, make_picture, of_many_scans
from tests.service.running import Serve, problem, wait_until


@pytest.fixture
def decoder() -> Iterator[Decoder]:
    decoder = Decoder()
    yield decoder
    decoder.close()


def children(decoder: Decoder) -> list[int]:
    process = decoder._process
    assert process is not None
    return [
        int(pid)
        for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    ]


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA"])
def test_a_picture_comes_as_it_would_without_a_process_of_its_own(
    decoder: Decoder, mode: str
) -> None:
    picture = make_picture(30, 20).convert(mode)
    exif = picture.getexif()
    exif[0x0112] = 6
    data = encode(picture, exif=exif)
    found = decoder.decode(io.BytesIO(data), 600)
    expected = upright(Image.open(io.BytesIO(data)))
    assert (found.mode, found.size) == (expected.mode, (20, 30))
    np.testing.assert_array_equal(np.asarray(found), np.asarray(expected))


def test_many_scans_end_at_the_processor_time_that_a_picture_of_this_size_may_take(
    decoder: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "_SECONDS", 0.5)
    monkeypatch.setattr(decoding, "_SECONDS_A_MEGAPIXEL", 0.0)
    with pytest.raises(DecodingError, match="more time or memory"):
        decoder.decode(io.BytesIO(of_many_scans(3000, 4000)), 9_000_000)
    wait_until(lambda: children(decoder) == [])


def test_a_picture_that_is_larger_than_it_said_is_refused(decoder: Decoder) -> None:
    with pytest.raises(DecodingError, match="larger than its header says"):
        decoder.decode(io.BytesIO(encode(make_picture(30, 20))), 599)


def test_memory_is_bounded(decoder: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "_MEMORY_BYTES", 1)
    monkeypatch.setattr(decoding, "_MEMORY_A_PIXEL", 1)
    with pytest.raises(DecodingError):
        decoder.decode(io.BytesIO(encode(make_picture(3000, 2000))), 6_000_000)


def test_all_pictures_of_a_request_have_one_process_which_ends_with_it(decoder: Decoder) -> None:
    data = io.BytesIO(encode(make_picture(30, 20)))
    seen = set()
    with closing(Decoding(decoder, [600] * 3)) as decoding:
        for _ in range(3):
            assert decoding.decode(data, 600).size == (30, 20)
            seen.update(children(decoder))
    assert len(seen) == 1
    wait_until(lambda: children(decoder) == [])


def test_pictures_behind_one_that_was_the_end_of_its_process_are_decoded(
    decoder: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "_SECONDS", 0.5)
    monkeypatch.setattr(decoding, "_SECONDS_A_MEGAPIXEL", 0.0)
    fine = io.BytesIO(encode(make_picture(30, 20)))
    with closing(Decoding(decoder, [600, 9_000_000, 600])) as several:
        several.decode(fine, 600)
        with pytest.raises(DecodingError, match="more time or memory"):
            several.decode(io.BytesIO(of_many_scans(3000, 4000)), 9_000_000)
        assert several.decode(fine, 600).size == (30, 20)


def test_a_picture_is_decoded_while_its_caller_does_something_else(decoder: Decoder) -> None:
    pictures = [make_picture(30, 20, seed) for seed in range(3)]
    files = [io.BytesIO(encode(picture)) for picture in pictures]
    with closing(Decoding(decoder, [600] * 3)) as several:
        several.begin(files[0], 600)
        np.testing.assert_array_equal(np.asarray(several.decode(files[0], 600)), pictures[0])
        several.begin(files[1], 600)  # in vain
        np.testing.assert_array_equal(np.asarray(several.decode(files[2], 600)), pictures[2])
        several.begin(files[1], 600)


def test_what_earlier_pictures_took_is_not_counted_against_a_picture(
    decoder: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "_SECONDS", 1.0)
    monkeypatch.setattr(decoding, "_SECONDS_A_MEGAPIXEL", 0.0)
    slow = io.BytesIO(of_many_scans(1500, 300))  # a third of a second
    with closing(Decoding(decoder, [2_250_000] * 6)) as several:
        for _ in range(6):
            assert several.decode(slow, 2_250_000).size == (1500, 1500)


def test_a_process_that_has_ended_is_started_again(decoder: Decoder) -> None:
    data = encode(make_picture(30, 20))
    decoder.decode(io.BytesIO(data), 600)
    assert decoder._process is not None
    os.kill(decoder._process.pid, signal.SIGKILL)
    decoder._process.wait()
    assert decoder.decode(io.BytesIO(data), 600).size == (30, 20)


def test_closing_ends_what_is_being_decoded(decoder: Decoder) -> None:
    refused: list[DecodingError] = []

    def decode() -> None:
        try:
            decoder.decode(io.BytesIO(of_many_scans(5000, 1000)), 50_000_000)
        except DecodingError as error:
            refused.append(error)

    decoder.start()
    thread = threading.Thread(target=decode)
    thread.start()
    wait_until(lambda: bool(children(decoder)))
    decoder.close()
    thread.join(60)
    assert refused


def test_the_service_refuses_such_a_picture_and_goes_on(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "_SECONDS", 0.5)
    monkeypatch.setattr(decoding, "_SECONDS_A_MEGAPIXEL", 0.0)
    service = serve()
    hostile = service.client.post("/reconstruct", files=form(of_many_scans(3000, 4000)))
    assert problem(hostile, 422, "broken-picture")["index"] == 0
    fine = service.client.post("/reconstruct", files=form(encode(make_picture())))
    assert fine.status_code == 200


def test_a_grid_that_is_what_it_says_is_read(decoder: Decoder) -> None:
    found = decoder.decode(io.BytesIO(heic([Grid(1, 2, 2, 2 * TILE, 2 * TILE)])), 4 * TILE**2)
    assert found.size == (2 * TILE, 2 * TILE)
    quarter = np.asarray(found)[:TILE, :TILE].astype(float)
    assert np.abs(quarter - np.asarray(make_picture(TILE, TILE))).mean() < 8


TOWER = [Grid(number, 5, 5, TILE) for number in range(1, 31)]  # 25 to the 30th tiles


@pytest.mark.parametrize(
    "grids",
    [
        pytest.param([Grid(1, 200, 200, 200 * TILE)], id="40,000 tiles that are said to be one"),
        pytest.param([Grid(1, 31, 31, 31 * TILE)], id="961 tiles that are said to be one"),
        pytest.param(TOWER, id="a grid of grids of grids"),
    ],
)
def test_a_small_heic_that_asks_for_much_is_refused_and_holds_nobody_up(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, grids: list[Grid]
) -> None:
    monkeypatch.setattr(decoding, "_SECONDS", 1.0)
    bomb = heic(grids)
    assert len(bomb) < 200_000
    service = serve()
    hostile = service.client.post("/reconstruct", files=form(bomb))
    assert problem(hostile, 422, "broken-picture")["index"] == 0
    fine = service.client.post("/reconstruct", files=form(encode(make_picture())))
    assert fine.status_code == 200


@pytest.mark.parametrize(
    "grids", [[Grid(2, 16, 16, 16 * TILE)], [Grid(3, 2, 2, TILE), Grid(2, 2, 2, TILE)]]
)
def test_grids_of_themselves_come_to_an_end(decoder: Decoder, grids: list[Grid]) -> None:
    """What a decoder makes of them is its own affair, but it is no more than they said."""
    with suppress(DecodingError):
        assert decoder.decode(io.BytesIO(heic(grids)), TILE**2).size == (TILE, TILE)
    assert decoder.decode(io.BytesIO(encode(make_picture(30, 20))), 600).size == (30, 20)


def test_a_small_heic_that_says_how_much_it_asks_for_is_refused_at_once(serve: Serve) -> None:
    service = serve(max_pixels=1_000_000)
    bomb = heic([Grid(1, 31, 31, 31 * TILE, 31 * TILE)])
    problem(service.client.post("/reconstruct", files=form(bomb)), 413, "too-many-pixels")
