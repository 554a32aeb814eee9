from __future__ import annotations

from pathlib import Path

import pytest

from quantvggt import BadInputError
from quantvggt.folder import replacing, try_folder


def files_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A folder with an earlier result of three pictures and somebody's own files."""
    for name in (
        "result.json",
        "scene.glb",
        "overview.png",
        "depth/2.npy",
        "depth/2/preview.png",
        "pictures/0.png",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("old")
    for name in ("notes.txt", "pictures/mine.png", "own/points.ply"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("mine")
    return tmp_path


def test_a_new_result_replaces_the_old_one_and_nothing_else(out: Path) -> None:
    with replacing(out) as staging:
        (staging / "depth").mkdir()
        (staging / "depth" / "0.npy").write_text("new")
        (staging / "result.json").write_text("new")
    assert files_in(out) == {
        "result.json",
        "depth/0.npy",
        "notes.txt",
        "pictures/mine.png",
        "own/points.ply",
    }
    assert (out / "result.json").read_text() == "new"


def write_half(staging: Path) -> None:
    (staging / "result.json").write_text("new")
    raise RuntimeError


def test_work_that_fails_leaves_everything_as_it_was(out: Path) -> None:
    before = files_in(out)
    with pytest.raises(RuntimeError), replacing(out) as staging:
        write_half(staging)
    assert files_in(out) == before
    assert (out / "result.json").read_text() == "old"


def test_a_folder_with_a_result_is_refused_unless_it_may_be_replaced(out: Path) -> None:
    with pytest.raises(BadInputError, match="holds a result already"):
        try_folder(out, overwrite=False)
    try_folder(out, overwrite=True)
    (out / "result.json").unlink()
    try_folder(out, overwrite=False)


def test_a_folder_is_made_and_what_can_be_none_is_refused(tmp_path: Path) -> None:
    try_folder(tmp_path / "a" / "b", overwrite=False)
    assert list((tmp_path / "a" / "b").iterdir()) == []
    (tmp_path / "file").write_text("")
    for name in ("file", "file/below"):
        with pytest.raises(BadInputError, match="can't be written to"):
            try_folder(tmp_path / name, overwrite=True)
