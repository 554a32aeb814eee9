from __future__ import annotations

import shutil
import signal
from pathlib import Path

import httpx
import pytest

from quantvggt.command import main
from service.settings import FIELDS
from tests.quantvggt.service_process import ServiceProcess, start
from tests.service.pictures import encode, form, make_picture


def test_sigterm_ends_the_service_with_status_0_and_removes_its_files(
    process: ServiceProcess,
) -> None:
    answer = httpx.post(
        f"{process.url}/reconstruct", files=form(encode(make_picture())), trust_env=False
    )
    assert answer.status_code == 200
    assert any(process.scratch.glob("reconstructions-*"))
    process.process.send_signal(signal.SIGTERM)
    out, errors = process.process.communicate(timeout=60)
    assert process.process.returncode == 0
    assert "Traceback" not in errors
    assert out == ""
    assert list(process.scratch.iterdir()) == []


def test_an_artifact_with_damaged_weights_stops_the_service_with_one_sentence(
    artifact: Path, tmp_path: Path
) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(artifact, damaged)
    weights = damaged / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\xff")
    process = start("serve", "--artifact", str(damaged), "--port", "0", "--log-level", "warning")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert errors.startswith("error: ")
    assert errors.count("\n") == 1


def test_an_unknown_variable_refuses_to_start(
    artifact: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("QUANTVGGT_KEPP", "3")
    assert main(["serve", "--artifact", str(artifact)]) == 2
    assert "QUANTVGGT_KEPP='3'; did you mean QUANTVGGT_KEEP?" in capsys.readouterr().err


def test_help_lists_every_setting_with_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["serve", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    for name, field in FIELDS.items():
        assert "--" + name.replace("_", "-") in text
        assert field.metadata["description"] in text
    assert "least level logged (default info)" in text
