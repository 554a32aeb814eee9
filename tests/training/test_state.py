from __future__ import annotations

from pathlib import Path

import torch

from training.state import load_state, save_state


def test_a_folder_without_a_state_has_none(tmp_path: Path) -> None:
    assert load_state(tmp_path) is None


def test_a_state_comes_back_and_replaces_the_older_one(tmp_path: Path) -> None:
    save_state(tmp_path, 1, {"a": torch.zeros(3)}, {"seed": 7})
    save_state(tmp_path, 2, {"a": torch.arange(3)}, {"seed": 8})
    state = load_state(tmp_path)
    assert state is not None
    manifest, tensors = state
    assert manifest["step"] == 2
    assert manifest["seed"] == 8
    assert torch.equal(tensors["a"], torch.arange(3))
    assert len(list(tmp_path.glob("state-*.pt"))) == 1


def test_no_file_exceeds_sixteen_megabytes(tmp_path: Path) -> None:
    save_state(tmp_path, 1, {str(index): torch.zeros(1_000_000) for index in range(9)}, {})
    sizes = [path.stat().st_size for path in tmp_path.glob("state-*.pt")]
    assert len(sizes) == 3
    assert max(sizes) <= 16_000_000
    state = load_state(tmp_path)
    assert state is not None
    assert len(state[1]) == 9


def test_a_view_is_saved_without_the_storage_behind_it(tmp_path: Path) -> None:
    save_state(tmp_path, 1, {"row": torch.zeros(1_000_000, 2)[0]}, {})
    assert next(tmp_path.glob("state-*.pt")).stat().st_size < 10_000


def test_a_crash_before_the_manifest_leaves_the_old_state(tmp_path: Path) -> None:
    save_state(tmp_path, 1, {"a": torch.zeros(3)}, {})
    torch.save({"a": torch.ones(3)}, tmp_path / "state-0000002-00.pt")
    state = load_state(tmp_path)
    assert state is not None
    assert state[0]["step"] == 1
    assert torch.equal(state[1]["a"], torch.zeros(3))
