from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kernels.cache import cache_folder


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    cache_folder.cache_clear()
    yield
    cache_folder.cache_clear()


def test_a_named_folder_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("QUANTVGGT_KERNEL_CACHE", str(tmp_path / "named"))
    assert cache_folder() == tmp_path / "named"


def test_else_it_is_the_users_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("QUANTVGGT_KERNEL_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "quantvggt"
    assert cache_folder().is_dir()


def test_where_nothing_can_be_written_it_is_a_temporary_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("QUANTVGGT_KERNEL_CACHE", raising=False)
    blocked = tmp_path / "file"
    blocked.touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    assert cache_folder().is_dir()
    assert blocked not in cache_folder().parents
