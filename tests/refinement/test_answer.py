"""An answer comes back as it was given, and a forged one is refused in a sentence."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from refinement import process
from refinement.answer import _DOCUMENT, _FILE, AnswerError, read_answer, write_answer
from refinement.photograph import Photograph
from refinement.result import DenseMap, Reason, RefinedPicture, Refinement, SparsePoints
from refinement.run import refine
from tests.refinement.rooms import Room

HEIGHT, WIDTH = 6, 8
PHOTOGRAPHS = [Photograph(Path("a.jpg"), HEIGHT, WIDTH)] * 2
LIMIT = 1 << 20


def picture(number: int) -> RefinedPicture:
    extrinsic = np.eye(4)[:3] + number / 7
    return RefinedPicture(
        "refined", extrinsic, 100 / 3, 4.0, 3.0, -0.1, 0.9, 5, None, (0.1, 1 / 3 + number)
    )


def answer() -> Refinement:
    random = np.random.default_rng(0)
    sparse = SparsePoints(
        xyz=random.normal(size=(3, 3)),
        rgb=random.integers(0, 256, (3, 3), np.uint8),
        error=random.random(3),
        start=np.array([0, 2, 2, 5]),
        picture=np.array([0, 1, 0, 1, 1]),
        pixel=random.random((5, 2)),
    )
    depth = random.random((HEIGHT, WIDTH)).astype(np.float32)
    depth[0] = np.nan
    source = random.integers(0, 3, (HEIGHT, WIDTH), np.uint8)
    return Refinement(
        pictures=(picture(0), picture(1)),
        method="seeded",
        support=1 / 3,
        network_support=None,
        reason=Reason("some", "words, grüße"),
        sparse=sparse,
        dense=(DenseMap(depth, source), DenseMap(depth[:3, :4], source[:3, :4])),
        notes=(Reason("weak-connection", "few"),),
        seconds={"features": 0.1, "dense": 2.5},
    )


def same(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other, equal_nan=one.dtype != "u1")
    if dataclasses.is_dataclass(one):
        names = [field.name for field in dataclasses.fields(one)]
        return all(same(getattr(one, name), getattr(other, name)) for name in names)
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


@pytest.mark.parametrize("change", [{}, {"sparse": None}, {"dense": None, "reason": None}])
def test_an_answer_comes_back_to_the_last_bit(tmp_path: Path, change: dict[str, Any]) -> None:
    given = dataclasses.replace(answer(), **change)
    write_answer(given, tmp_path)
    found = read_answer(tmp_path, PHOTOGRAPHS, LIMIT)
    assert same(given, found)


def test_where_there_is_no_answer_there_is_none(tmp_path: Path) -> None:
    assert read_answer(tmp_path, PHOTOGRAPHS, LIMIT) is None


def refused(folder: Path, match: str = ".", most_bytes: int = LIMIT) -> None:
    with pytest.raises(AnswerError, match=match):
        read_answer(folder, PHOTOGRAPHS, most_bytes)


ARRAYS = {
    "a camera is missing": {"extrinsics": np.zeros((1, 3, 4))},
    "a camera is not finite": {"extrinsics": np.full((2, 3, 4), np.nan)},
    "a focal length is negative": {"lenses": -np.ones((2, 4))},
    "numbers are of another type": {"lenses": np.ones((2, 4), np.float32)},
    "points begin elsewhere": {"sparse.start": np.array([1, 2, 2, 5])},
    "points go back": {"sparse.start": np.array([0, 3, 2, 5])},
    "observations are left": {"sparse.start": np.array([0, 2, 2, 4])},
    "there is no such picture": {"sparse.picture": np.array([0, 1, 0, 1, 2])},
    "there is no such source": {"source.0": np.full((HEIGHT, WIDTH), 3, np.uint8)},
    "a map is larger than its picture": {
        "depth.0": np.ones((HEIGHT + 1, WIDTH), np.float32),
        "source.0": np.ones((HEIGHT + 1, WIDTH), np.uint8),
    },
    "a map is missing": {"depth.1": None},
}
WORDS: dict[str, dict[str, Any]] = {
    "a method is not known": {"method": "magic"},
    "a number is infinite": {"support": float("inf")},
    "a picture is missing": {"pictures": []},
    "a picture is nothing": {"pictures": [None, None]},
    "a reason is none": {"reason": {"code": 1}},
    "seconds are no numbers": {"seconds": {"dense": "long"}},
    "seconds are a list": {"seconds": [1]},
    "a number is too large": {"support": 10**400},
    "a count is infinite": {"pictures": [["network", 0.5, float("inf"), 1.0, None]] * 2},
    "a fit is empty": {"pictures": [["network", 0.5, 5, 1.0, []]] * 2},
}


@pytest.mark.parametrize("case", [*ARRAYS, *WORDS])
def test_a_forged_answer_is_refused(tmp_path: Path, case: str) -> None:
    write_answer(answer(), tmp_path)
    path = tmp_path / _FILE
    with safe_open(path, framework="np") as file:
        document = json.loads(file.metadata()[_DOCUMENT])
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    arrays |= ARRAYS.get(case, {})
    document |= WORDS.get(case, {})
    given = {name: array for name, array in arrays.items() if array is not None}
    save_file(given, path, {_DOCUMENT: json.dumps(document)})
    refused(tmp_path)


@pytest.mark.parametrize("content", [b"", b"\x80\x04N.", b"\xff" * 100, b"\x02" + bytes(7) + b"{}"])
def test_another_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / _FILE).write_bytes(content)
    refused(tmp_path)


def test_a_large_file_a_link_and_a_pipe_are_refused_unread(tmp_path: Path) -> None:
    write_answer(answer(), tmp_path)
    path = tmp_path / _FILE
    refused(tmp_path, "at most 100 bytes", most_bytes=100)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    refused(tmp_path, "no file")
    path.unlink()
    os.mkfifo(path)
    refused(tmp_path, "no file")


def test_a_process_that_was_taken_over_runs_nothing_here(
    room: Room, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(process, "_MODULE", "tests.refinement.forging_child")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    found = refine(room.photographs, room.network)
    assert found.reason is not None
    assert found.reason.code == "invalid-answer"
    assert "gave no answer that can be used" in found.reason.message
    assert [each.source for each in found.pictures] == ["network"] * 4
    assert list(tmp_path.iterdir()) == []
