from __future__ import annotations

import io
import sys

import pytest

from model.progress import track


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_without_a_terminal_every_tenth_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(track(range(20), "scenes")) == list(range(20))
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [f"scenes: {count}/20" for count in range(2, 21, 2)]


def test_an_unknown_total_is_counted_up(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(list(track((i for i in range(120)), "scenes"))) == 120
    assert capsys.readouterr().err.splitlines() == ["scenes: 50", "scenes: 100"]


def test_on_a_terminal_there_is_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert list(track([1, 2, 3], "scenes")) == [1, 2, 3]
    assert "scenes:" in terminal.getvalue()
    assert "\r" in terminal.getvalue()
