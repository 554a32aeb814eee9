"""schemathesis against a running service: no undocumented answer and no 5xx."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.service.pictures import encode, form, make_picture
from tests.service.stress.conftest import Start

pytestmark = pytest.mark.stress


@pytest.mark.parametrize(
    "part",
    [
        # Forms with files that are wrong on purpose break schemathesis 4.32;
        # test_hostile_uploads.py sends such.
        ("--include-path", "/reconstruct", "--mode", "positive"),
        ("--exclude-path", "/reconstruct"),
    ],
    ids=["uploads", "everything else"],
)
def test_nothing_undocumented_is_ever_answered(
    start: Start, tmp_path: Path, capsys: pytest.CaptureFixture[str], part: tuple[str, ...]
) -> None:
    nowhere = ("--fetch-urls", "--fetch-hosts", "http://127.0.0.1:9")
    _, url = start("--max-images", "4", "--upload-timeout", "5", *nowhere)
    answer = httpx.post(
        f"{url}/reconstruct", files=form(encode(make_picture())), trust_env=False, timeout=60
    )
    assert answer.status_code == 200
    (tmp_path / "schemathesis.toml").write_text("")
    command = [
        str(Path(sys.executable).with_name("schemathesis")),
        "run",
        f"{url}/openapi.json",
        *part,
    ]
    command += ["--continue-on-failure", "--no-color", "--seed", "1"]
    command += ["--max-examples", "100", "--request-timeout", "60"]
    command += ["--checks", "not_a_server_error,status_code_conformance,content_type_conformance"]
    command += ["--checks", "response_headers_conformance,response_schema_conformance"]
    finished = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=900)
    with capsys.disabled():
        print("\n" + "\n".join(finished.stdout.splitlines()[-25:]))
    assert finished.returncode == 0, finished.stdout[-8000:]
