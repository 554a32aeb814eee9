from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import torch

from quantization.calibration import store as module
from quantization.calibration.store import CalibrationError, StageStore

IDENTITY = {"checkpoint": "abc", "recipe": {"smooth": True}}
TENSORS = {
    "attn.qkv.weight": torch.arange(6, dtype=torch.uint8).view(2, 3),
    "norm1.bias": torch.randn(4),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    StageStore(tmp_path / "blocks", IDENTITY).put("frame_blocks.0", TENSORS, [{"name": "x"}])
    return tmp_path / "blocks"


def test_a_finished_stage_comes_back_bit_for_bit(folder: Path) -> None:
    found = StageStore(folder, IDENTITY).get("frame_blocks.0")
    assert found is not None
    tensors, record = found
    assert record == [{"name": "x"}]
    assert all(torch.equal(tensors[name], value) for name, value in TENSORS.items())


def test_an_unknown_stage_is_not_there(folder: Path) -> None:
    assert StageStore(folder, IDENTITY).get("frame_blocks.1") is None


def test_a_damaged_file_is_computed_again(folder: Path) -> None:
    file = folder / "frame_blocks.0.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\x00")
    assert StageStore(folder, IDENTITY).get("frame_blocks.0") is None


def test_blocks_of_another_run_are_refused_by_what_differs(folder: Path) -> None:
    with pytest.raises(CalibrationError, match=r"differs in recipe\)"):
        StageStore(folder, {**IDENTITY, "recipe": {"smooth": False}})


def test_a_damaged_journal_is_one_sentence(folder: Path) -> None:
    (folder / "journal.json").write_text("{")
    with pytest.raises(CalibrationError, match="is damaged; remove"):
        StageStore(folder, IDENTITY)


def test_a_full_disk_keeps_what_is_finished(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    blocks = StageStore(folder, IDENTITY)
    monkeypatch.setattr(module.os, "fsync", full)
    with pytest.raises(
        CalibrationError, match=r"no space left to write .*1 finished blocks are kept: make room"
    ):
        blocks.put("frame_blocks.1", TENSORS, [])
    monkeypatch.undo()
    assert sorted(path.name for path in folder.iterdir()) == [
        "frame_blocks.0.safetensors",
        "journal.json",
    ]
    assert StageStore(folder, IDENTITY).get("frame_blocks.0") is not None
