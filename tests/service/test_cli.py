from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import pytest
import trimesh

from service.cli import main
from service.client import Client
from tests.service.pictures import encode, form, make_picture

ROOT = Path(__file__).parents[2]


@pytest.fixture
def pictures(tmp_path: Path) -> list[str]:
    """Two pictures, the second one portrait."""
    paths = [tmp_path / "a.png", tmp_path / "b.jpg"]
    paths[0].write_bytes(encode(make_picture(120, 90, 0)))
    paths[1].write_bytes(encode(make_picture(90, 120, 1), "JPEG"))
    return [str(path) for path in paths]


def start(*arguments: str, **environ: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "service", *arguments],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@dataclass
class Process:
    process: subprocess.Popen[str]
    url: str
    scratch: Path


@pytest.fixture(scope="module")
def process(artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A true ``serve`` process, its settings half flags and half environment."""
    scratch = tmp_path_factory.mktemp("scratch")
    process = start("serve", "--port", "0", "--json", VGGT_ARTIFACT=str(artifact), TMPDIR=str(scratch))
    assert process.stdout is not None
    url = json.loads(process.stdout.readline())["url"]
    Client(url).wait_until_ready(60)
    yield Process(process, url, scratch)
    process.kill()
    process.communicate()


def test_with_and_without_a_server_the_result_folder_is_the_same(
    process: Process, artifact: Path, pictures: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    assert main(["reconstruct", *pictures, "--artifact", str(artifact), "--out", str(here), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert main(["reconstruct", *pictures, "--server", process.url, "--out", str(there)]) == 0
    assert str(there) in capsys.readouterr().out

    files = {str(path.relative_to(here)) for path in here.rglob("*") if path.is_file()}
    assert files == {str(path.relative_to(there)) for path in there.rglob("*") if path.is_file()}
    ours, theirs = (json.loads((folder / "result.json").read_text()) for folder in (here, there))
    assert printed == ours
    for document in (ours, theirs):
        for changing in ("id", "created", "started", "finished", "timings", "run"):
            document.pop(changing)
    assert ours["model"] == theirs["model"]
    assert ours["links"] == theirs["links"]
    for a, b in zip(ours["pictures"], theirs["pictures"], strict=True):
        np.testing.assert_allclose(a["extrinsic"], b["extrinsic"], atol=1e-4)
    depth = np.load(here / "depth" / "1.npy")
    assert depth.shape == (120, 90)
    np.testing.assert_allclose(depth, np.load(there / "depth" / "1.npy"), rtol=1e-3)
    assert len(trimesh.load(here / "points.ply").vertices) > 1000


def test_an_interrupted_run_goes_on_where_it_was(
    process: Process, pictures: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    command = ["reconstruct", *pictures, "--server", process.url, "--out", str(out), "-o", "confidence=7"]

    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Client, "follow", interrupted)
        assert main(command) == 130
    id = json.loads((out / ".reconstruction.json").read_text())["id"]
    with monkeypatch.context() as patch:
        patch.setattr(Client, "submit", interrupted)  # nothing is sent again
        assert main([*command, "--output", "scene.glb"]) == 0
    assert json.loads((out / "result.json").read_text())["id"] == id
    assert {path.name for path in out.iterdir()} == {"result.json", "scene.glb"}


def test_a_url_is_passed_on_to_the_server_which_has_the_last_word(
    process: Process, pictures: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = "https://images.example.org/a.png"
    assert main(["reconstruct", pictures[0], url, "--server", process.url, "--out", str(tmp_path / "out")]) == 1
    assert "fetches nothing by URL" in capsys.readouterr().err


def test_a_key_is_shown_once_and_stored_as_a_hash(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["key", "alice", "--file", str(tmp_path / "keys.json"), "--json"]) == 0
    key = json.loads(capsys.readouterr().out)["key"]
    assert key not in (tmp_path / "keys.json").read_text()


def test_sigterm_ends_the_service_with_status_0_and_removes_its_files(process: Process) -> None:
    answer = httpx.post(f"{process.url}/reconstruct", files=form(encode(make_picture())), trust_env=False)
    assert answer.status_code == 200
    assert any(process.scratch.glob("reconstructions-*"))
    process.process.send_signal(signal.SIGTERM)
    out, errors = process.process.communicate(timeout=60)
    assert process.process.returncode == 0
    assert "Traceback" not in errors
    assert out == ""
    assert list(process.scratch.iterdir()) == []


def test_an_artifact_with_damaged_weights_stops_the_service_with_one_sentence(artifact: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(artifact, damaged)
    weights = damaged / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\xff")
    process = start("serve", "--artifact", str(damaged), "--port", "0", "--log-level", "warning")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert errors.startswith("error: ")
    assert errors.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(["serve"], "--artifact", id="no artifact"),
        pytest.param(["serve", "--artifact", "{tmp}/none"], "no artifact at", id="a missing artifact"),
        pytest.param(["serve", "--artifact", "{tmp}"], "not an artifact", id="a foreign folder"),
        pytest.param(["serve", "--artifact", "{artifact}", "--port", "x"], "--port x", id="a bad port"),
        pytest.param(["serve", "--artifact", "{artifact}", "--host", "no such host"], "no such host", id="a bad host"),
        pytest.param(
            ["reconstruct", "{tmp}/none.png", "--artifact", "{artifact}", "--out", "{tmp}/o"], "none.png", id="no file"
        ),
        pytest.param(
            ["reconstruct", "{tmp}/text.png", "--artifact", "{artifact}", "--out", "{tmp}/o"],
            "text.png is not a JPEG, PNG, WebP or HEIC picture",
            id="no picture",
        ),
        pytest.param(
            ["reconstruct", "a.png", "--server", "http://127.0.0.1:9", "--device", "cpu", "--out", "{tmp}/o"],
            "--device",
            id="a device for a server",
        ),
        pytest.param(
            ["reconstruct", "a.png", "--server", "http://127.0.0.1:9", "-o", "modus=fit", "--out", "{tmp}/o"],
            "modus=fit",
            id="an unknown option",
        ),
        pytest.param(
            ["reconstruct", "a.png", "--artifact", "{artifact}", "--output", "x", "--out", "{tmp}/o"],
            "--output",
            id="an output without a server",
        ),
        pytest.param(
            ["reconstruct", "https://images.example.org/a.png", "--artifact", "{artifact}", "--out", "{tmp}/o"],
            "give --server",
            id="a URL without a server",
        ),
        pytest.param(
            ["serve", "--artifact", "{artifact}", "--fetch-hosts", "a,*"], "--fetch-hosts a,*", id="a host that is none"
        ),
        pytest.param(["key", "", "--file", "{tmp}/keys.json"], "1 to 100", id="a key for nobody"),
        pytest.param(
            ["serve", "--artifact", "{artifact}", "--api-keys", "{tmp}/none.json"], "none.json", id="no file of keys"
        ),
        pytest.param(
            ["serve", "--artifact", "{artifact}", "--object-store", "s3://bucket"], "database",
            id="an object store without a database",
        ),
        pytest.param(
            ["serve", "--artifact", "{artifact}", "--database", "mysql://h/d", "--object-store", "file:///{tmp}/objects"],
            "an address for mysql", id="a foreign database",
        ),
        pytest.param(
            ["serve", "--artifact", "{artifact}", "--database", "postgresql://h/d", "--object-store", "ftp://h/d"],
            "no object store", id="a foreign object store",
        ),
        pytest.param(
            ["demo", "--artifact", "{artifact}", "--samples", "{tmp}", "--out", "{tmp}/o"],
            "cameras.json",
            id="no samples",
        ),
    ],
)  # fmt: skip
def test_bad_input_is_one_sentence_and_status_2(
    arguments: list[str], words: str, artifact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.png").write_text("no picture")
    assert main([argument.format(tmp=tmp_path, artifact=artifact) for argument in arguments]) == 2
    captured = capsys.readouterr()
    last = captured.err.splitlines()[-1]
    assert last.startswith("error: ")
    assert words in last
    assert captured.out == ""


def test_an_unknown_variable_refuses_to_start(
    artifact: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VGGT_KEPP", "3")
    assert main(["serve", "--artifact", str(artifact)]) == 2
    assert "VGGT_KEPP='3'; did you mean VGGT_KEEP?" in capsys.readouterr().err


@pytest.mark.parametrize("command", [[], ["serve"], ["reconstruct"], ["key"], ["demo"]])
def test_every_command_explains_itself(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*command, "--help"])
    assert ended.value.code == 0
    assert "usage: python -m service" in capsys.readouterr().out
