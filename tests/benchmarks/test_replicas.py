from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import replicas, service_overhead
from quantvggt.client import Client


def test_a_service_that_never_gets_ready_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stalled = tmp_path / "stalled"
    stalled.write_text('#!/bin/sh\necho \'{"url": "http://127.0.0.1:9"}\'\nexec sleep 600\n')
    stalled.chmod(0o755)
    started: list[subprocess.Popen[str]] = []

    class Popen(subprocess.Popen[str]):
        def __init__(self, *args: object, **options: object) -> None:
            super().__init__(*args, **options)  # type: ignore[call-overload]
            started.append(self)

    def give_up(*_: object) -> None:
        raise TimeoutError

    monkeypatch.setattr(sys, "executable", str(stalled))
    monkeypatch.setattr(subprocess, "Popen", Popen)
    monkeypatch.setattr(Client, "wait_until_ready", give_up)
    with pytest.raises(TimeoutError), replicas._served(tmp_path, ()):
        pass
    assert started[0].poll() is not None


@pytest.mark.parametrize("main", [replicas.main, service_overhead.main])
def test_a_folder_without_pictures_is_named(
    main: Callable[[], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(
        sys, "argv", ["benchmark", "--artifact", "artifact", "--pictures", str(tmp_path)]
    )
    with pytest.raises(SystemExit):
        main()
    assert f"--pictures {tmp_path}: no .png or .jpg pictures" in capsys.readouterr().err
