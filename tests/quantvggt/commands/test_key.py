from __future__ import annotations

import json
from pathlib import Path

import pytest

from quantvggt.command import main


def test_a_key_is_shown_once_and_stored_as_a_hash(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["key", "alice", "--file", str(tmp_path / "keys.json"), "--json"]) == 0
    key = json.loads(capsys.readouterr().out)["key"]
    assert key not in (tmp_path / "keys.json").read_text()
