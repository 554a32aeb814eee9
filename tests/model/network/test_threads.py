from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from model.network import threads
from model.network.threads import limit_threads, share


@pytest.fixture
def groups(tmp_path: Path) -> Path:
    (tmp_path / "hierarchy/pod/container").mkdir(parents=True)
    (tmp_path / "membership").write_text("0::/pod/container\n")
    return tmp_path


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def _share(groups: Path) -> float:
    return share(groups / "membership", groups / "hierarchy")


def test_without_a_limit_the_share_is_infinite(groups: Path) -> None:
    assert _share(groups) == math.inf
    (groups / "hierarchy/pod/container/cpu.max").write_text("max 100000\n")
    assert _share(groups) == math.inf


def test_the_tightest_limit_of_the_groups_above_counts(groups: Path) -> None:
    (groups / "hierarchy/pod/container/cpu.max").write_text("max 100000\n")
    (groups / "hierarchy/pod/cpu.max").write_text("250000 100000\n")
    (groups / "hierarchy/cpu.max").write_text("600000 100000\n")
    assert _share(groups) == 2.5


def test_a_container_that_sees_itself_as_the_root_reads_its_own_limit(groups: Path) -> None:
    (groups / "membership").write_text("0::/\n")
    (groups / "hierarchy/cpu.max").write_text("150000 100000\n")
    assert _share(groups) == 1.5


@pytest.mark.parametrize("text", ["", "1:name=systemd:/x\n", "0::/gone\n"])
def test_where_there_are_no_such_groups_nothing_is_limited(groups: Path, text: str) -> None:
    (groups / "membership").write_text(text)
    assert _share(groups) == math.inf
    assert share(groups / "nowhere", groups / "nowhere") == math.inf


def test_threads_are_those_asked_for_or_those_that_the_share_carries(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert limit_threads(3) == torch.get_num_threads() == 3
    monkeypatch.setattr(threads, "share", lambda: 2.9)
    assert limit_threads() == torch.get_num_threads() == 2
    monkeypatch.setattr(threads, "share", lambda: 0.5)
    assert limit_threads() == torch.get_num_threads() == 1
    monkeypatch.setattr(threads, "share", lambda: math.inf)
    assert limit_threads() == torch.get_num_threads() == 1  # not more than torch would take
