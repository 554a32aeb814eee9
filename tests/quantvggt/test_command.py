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

from quantvggt.client import Client
from quantvggt.command import main
from service.settings import FIELDS
from tests.service.pictures import encode, form, make_picture

ROOT = Path(__file__).parents[2]
DEFAULT = {
    "result.json",
    "points.ply",
    "cameras.json",
    "pictures/0.png",
    "depth/0.png",
    "depth/0.npy",
    "pictures/1.png",
    "depth/1.png",
    "depth/1.npy",
}


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
    process = start(
        "serve", "--port", "0", "--json", QUANTVGGT_ARTIFACT=str(artifact), TMPDIR=str(scratch)
    )
    assert process.stdout is not None
    url = json.loads(process.stdout.readline())["url"]
    Client(url).wait_until_ready(60)
    yield Process(process, url, scratch)
    process.kill()
    process.communicate()


def files_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [
        pytest.param([], DEFAULT, id="by default"),
        pytest.param(
            ["scene.glb", "depth/*.exr"],
            {"result.json", "scene.glb", "depth/0.exr", "depth/1.exr"},
            id="some",
        ),
    ],
)
def test_with_and_without_a_server_the_same_files_come_out(
    process: Process,
    artifact: Path,
    pictures: list[str],
    outputs: list[str],
    expected: set[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    chosen = [word for output in outputs for word in ("--output", output)]
    assert (
        main(
            [
                "reconstruct",
                *pictures,
                *chosen,
                "--artifact",
                str(artifact),
                "--out",
                str(here),
                "--json",
            ]
        )
        == 0
    )
    local = capsys.readouterr()
    assert (
        main(["reconstruct", *pictures, *chosen, "--server", process.url, "--out", str(there)]) == 0
    )
    served = capsys.readouterr()
    assert str(there) in served.out
    for stage in ("load", "reconstruct", "export"):
        assert f"{stage:<12}100%" in local.err
    for stage in ("upload", "export", "download"):
        assert f"{stage:<12}100%" in served.err

    assert files_in(here) == files_in(there) == expected
    ours, theirs = (json.loads((folder / "result.json").read_text()) for folder in (here, there))
    assert json.loads(local.out) == ours
    for document in (ours, theirs):
        for changing in ("id", "created", "started", "finished", "timings", "run", "reused"):
            document.pop(changing)
    for a, b in zip(ours["pictures"], theirs["pictures"], strict=True):
        np.testing.assert_allclose(a.pop("extrinsic"), b.pop("extrinsic"), atol=1e-4)
        assert a["links"] == b["links"]
        assert a["depth"]["links"] == b["depth"]["links"]
    assert ours["model"] == theirs["model"]
    assert ours["links"] == theirs["links"]
    if not outputs:
        depth = np.load(here / "depth" / "1.npy")
        assert depth.shape == (120, 90)
        np.testing.assert_allclose(depth, np.load(there / "depth" / "1.npy"), rtol=1e-3)
        assert len(trimesh.load(here / "points.ply").vertices) > 1000


def test_passes_and_keys_of_a_long_scene_are_flags(
    artifact: Path, pictures: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["reconstruct", pictures[0], pictures[0], pictures[0], "--json"]
    command += ["--passes", "2", "--attention-keys", "60", "--output", "cameras.json"]
    assert main([*command, "--artifact", str(artifact), "--out", str(tmp_path / "out")]) == 0
    run = json.loads(capsys.readouterr().out)["run"]
    assert (run["passes"], run["chunk_frames"]) == (2, 2)
    assert run["degraded"] == ["fewer-keys", "chunked"]


def test_a_dry_run_predicts_with_and_without_a_server_and_writes_nothing(
    process: Process,
    artifact: Path,
    pictures: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    plans = []
    for place in (["--server", process.url], ["--artifact", str(artifact)]):
        command = ["reconstruct", *pictures, *place, "--option", "dry_run=true"]
        assert main([*command, "--out", str(out), "--json"]) == 0
        said = capsys.readouterr()
        assert "reconstruct " not in said.err, "no pass over the pictures"
        plans.append(json.loads(said.out))
        assert main(command) == 0
        assert "nothing was reconstructed" in capsys.readouterr().out
    assert not out.exists()
    for plan in plans:
        assert plan["dry_run"] is True
        assert plan.pop("predicted_seconds") > 0  # as measured by either process
        assert plan.pop("predicted_memory_bytes") > 0
    assert plans[0] == plans[1]
    bad = ["reconstruct", *pictures, "--artifact", str(artifact), "--option", "dry_run=true"]
    assert main([*bad, "--option", "mode=odd"]) == 2
    assert main(bad[:-2]) == 2
    assert "--out is missing" in capsys.readouterr().err


def test_what_to_know_of_a_result_is_said_on_standard_error(
    artifact: Path, pictures: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rooms = shutil.copytree(artifact, tmp_path / "rooms")
    manifest = json.loads((rooms / "manifest.json").read_text())
    manifest["domain"] = {"trained_on": "drawn rooms", "photographs": False}
    (rooms / "manifest.json").write_text(json.dumps(manifest))
    command = ["reconstruct", *pictures, "--output", "cameras.json", "--json"]
    assert main([*command, "--artifact", str(rooms), "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr()
    (warning,) = json.loads(said.out)["warnings"]
    assert f"warning: {warning['message']}\n" in said.err
    assert "drawn rooms only" in warning["message"]
    assert main([*command, "--artifact", str(artifact), "--out", str(tmp_path / "unknown")]) == 0
    assert "warning" not in capsys.readouterr().err


def test_folders_patterns_and_files_are_sent_in_the_order_given(
    process: Process, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "scene"
    folder.mkdir()
    for number in (1, 2, 10):
        (folder / f"{number}.png").write_bytes(encode(make_picture(seed=number)))
    (folder / "notes.txt").write_text("no picture")
    command = [
        "reconstruct",
        str(folder / "1?.png"),
        str(folder),
        str(folder / "2.png"),
        "--server",
        process.url,
    ]
    assert (
        main([*command, "--out", str(tmp_path / "out"), "--output", "cameras.json", "--json"]) == 0
    )
    document = json.loads(capsys.readouterr().out)
    sent = [picture["filename"] for picture in document["pictures"]]
    assert sent == ["10.png", "1.png", "2.png", "10-2.png", "2-2.png"]


def test_folders_and_names_that_are_not_utf_8_are_sent_as_they_are_read_here(
    process: Process, artifact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, name in enumerate((b"left/1.png", b"right/1.png", b"right/z\xfcr.png")):
        path = tmp_path / os.fsdecode(name)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(encode(make_picture(seed=number)))
    command = ["reconstruct", str(tmp_path / "left"), str(tmp_path / "right"), "--json"]
    command += ["--output", "cameras.json"]
    for place in (["--server", process.url], ["--artifact", str(artifact)]):
        out = tmp_path / place[0] / os.fsdecode(b"\xe9")
        assert main([*command, *place, "--out", str(out)]) == 0
        pictures = json.loads(capsys.readouterr().out)["pictures"]
        sent = [picture["filename"] for picture in pictures]
        assert sent == ["left/1.png", "right/1.png", "right/z\ufffdr.png"]
        cameras = json.loads((out / "cameras.json").read_text())["cameras"]
        assert [camera["file"] for camera in cameras] == sent


def test_a_result_is_only_replaced_if_asked_and_then_nothing_of_it_stays(
    process: Process, pictures: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = ["reconstruct", "--server", process.url, "--out", str(out)]
    assert main([*command, *pictures]) == 0
    (out / "notes.txt").write_text("mine")
    before = (out / "result.json").read_bytes()
    assert main([*command, *pictures]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert (out / "result.json").read_bytes() == before
    (tmp_path / "broken.png").write_text("no picture")
    assert main([*command, str(tmp_path / "broken.png"), "--overwrite"]) == 2
    assert files_in(out) == {*DEFAULT, "notes.txt"}, "what was there outlives work that fails"
    assert main([*command, pictures[0], "--overwrite", "--output", "depth/*.npy"]) == 0
    assert files_in(out) == {"result.json", "depth/0.npy", "notes.txt"}


def test_a_folder_that_cannot_be_written_is_refused_before_the_work(
    pictures: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    for place in (["--server", "http://127.0.0.1:9"], ["--artifact", str(tmp_path / "none")]):
        assert (
            main(["reconstruct", *pictures, *place, "--out", str(tmp_path / "file" / "out")]) == 2
        )
        assert "can't be written to" in capsys.readouterr().err


def test_an_interrupted_run_goes_on_where_it_was(
    process: Process, pictures: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    command = [
        "reconstruct",
        *pictures,
        "--server",
        process.url,
        "--out",
        str(out),
        "-o",
        "confidence=7",
    ]

    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Client, "follow", interrupted)
        assert main(command) == 130
    id = json.loads((out / ".reconstruction.json").read_text())["id"]
    with monkeypatch.context() as patch:
        patch.setattr(Client, "submit", interrupted)  # nothing is sent again
        assert main([*command, "--output", "scene.glb"]) == 0
    assert json.loads((out / "result.json").read_text())["id"] == id
    assert files_in(out) == {"result.json", "scene.glb"}


def test_a_url_is_passed_on_to_the_server_which_has_the_last_word(
    process: Process, pictures: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = "https://images.example.org/a.png"
    assert (
        main(
            [
                "reconstruct",
                pictures[0],
                url,
                "--server",
                process.url,
                "--out",
                str(tmp_path / "out"),
            ]
        )
        == 2
    )
    assert "fetches nothing by URL" in capsys.readouterr().err


def test_a_server_that_cannot_be_reached_is_status_1(
    pictures: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        main(
            [
                "reconstruct",
                *pictures,
                "--server",
                "http://127.0.0.1:9",
                "--out",
                str(tmp_path / "out"),
            ]
        )
        == 1
    )
    assert "can't be reached" in capsys.readouterr().err


def test_a_key_is_shown_once_and_stored_as_a_hash(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["key", "alice", "--file", str(tmp_path / "keys.json"), "--json"]) == 0
    key = json.loads(capsys.readouterr().out)["key"]
    assert key not in (tmp_path / "keys.json").read_text()


def test_sigterm_ends_the_service_with_status_0_and_removes_its_files(process: Process) -> None:
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


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(["serve"], "--artifact", id="no artifact"),
        pytest.param(
            ["serve", "--artifact", "{tmp}/none"], "no artifact at", id="a missing artifact"
        ),
        pytest.param(["serve", "--artifact", "{tmp}"], "not an artifact", id="a foreign folder"),
        pytest.param(
            ["serve", "--artifact", "{artifact}", "--port", "x"], "--port x", id="a bad port"
        ),
        pytest.param(
            ["serve", "--artifact", "{artifact}", "--host", "no such host"],
            "no such host",
            id="a bad host",
        ),
        pytest.param(
            ["reconstruct", "{tmp}/none.png", "--artifact", "{artifact}", "--out", "{tmp}/o"],
            "none.png",
            id="no file",
        ),
        pytest.param(
            ["reconstruct", "{tmp}/text.png", "--artifact", "{artifact}", "--out", "{tmp}/o"],
            "text.png is not a JPEG, PNG, WebP, HEIC or AVIF picture",
            id="no picture",
        ),
        pytest.param(
            [
                "reconstruct",
                "{tmp}/text.png",
                "--server",
                "http://127.0.0.1:9",
                "--device",
                "cpu",
                "--out",
                "{tmp}/o",
            ],
            "--device",
            id="a device for a server",
        ),
        pytest.param(
            [
                "reconstruct",
                "a.png",
                "--server",
                "http://127.0.0.1:9",
                "-o",
                "modus=fit",
                "--out",
                "{tmp}/o",
            ],
            "modus=fit",
            id="an unknown option",
        ),
        pytest.param(
            [
                "reconstruct",
                "a.png",
                "--artifact",
                "{artifact}",
                "--output",
                "scene.obj",
                "--out",
                "{tmp}/o",
            ],
            "scene.obj",
            id="an output that there is none of",
        ),
        pytest.param(
            ["reconstruct", "{tmp}/*.jpg", "--artifact", "{artifact}", "--out", "{tmp}/o"],
            "matches no file",
            id="a pattern without files",
        ),
        pytest.param(
            ["reconstruct", "{artifact}", "--artifact", "{artifact}", "--out", "{tmp}/o"],
            "holds no pictures",
            id="a folder without pictures",
        ),
        pytest.param(
            [
                "reconstruct",
                "{tmp}/text.png",
                "--artifact",
                "{artifact}",
                "--out",
                "{tmp}/o",
                "-o",
                "confidence=x",
            ],
            "confidence",
            id="an option that is no number",
        ),
        pytest.param(
            [
                "reconstruct",
                "https://images.example.org/a.png",
                "--artifact",
                "{artifact}",
                "--out",
                "{tmp}/o",
            ],
            "give --server",
            id="a URL without a server",
        ),
        pytest.param(
            ["serve", "--artifact", "{artifact}", "--fetch-hosts", "a,*"],
            "--fetch-hosts a,*",
            id="a host that is none",
        ),
        pytest.param(["key", "", "--file", "{tmp}/keys.json"], "1 to 100", id="a key for nobody"),
        pytest.param(
            ["serve", "--artifact", "{artifact}", "--api-keys", "{tmp}/none.json"],
            "none.json",
            id="no file of keys",
        ),
        pytest.param(
            ["serve", "--artifact", "{artifact}", "--object-store", "s3://bucket"],
            "database",
            id="an object store without a database",
        ),
        pytest.param(
            [
                "serve",
                "--artifact",
                "{artifact}",
                "--database",
                "mysql://h/d",
                "--object-store",
                "file:///{tmp}/objects",
            ],
            "an address for mysql",
            id="a foreign database",
        ),
        pytest.param(
            [
                "serve",
                "--artifact",
                "{artifact}",
                "--database",
                "postgresql://h/d",
                "--object-store",
                "ftp://h/d",
            ],
            "no object store",
            id="a foreign object store",
        ),
        pytest.param(
            ["key", "bob", "--file", "{tmp}/keys.json", "--per-hour", "0"],
            "--per-hour 0",
            id="a key for nothing",
        ),
        pytest.param(["demo"], "quantvggt quantize demo", id="a demo of nothing"),
        pytest.param(
            ["demo", "--artifact", "{artifact}", "--samples", "{tmp}", "--out", "{tmp}/o"],
            "cameras.json",
            id="no samples",
        ),
    ],
)
def test_bad_input_is_one_sentence_and_status_2(
    arguments: list[str],
    words: str,
    artifact: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
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
    monkeypatch.setenv("QUANTVGGT_KEPP", "3")
    assert main(["serve", "--artifact", str(artifact)]) == 2
    assert "QUANTVGGT_KEPP='3'; did you mean QUANTVGGT_KEEP?" in capsys.readouterr().err


@pytest.mark.parametrize("program", ["quantvggt", "python -m service", "python -m quantization"])
def test_every_program_explains_itself_by_its_own_name(
    program: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"], program)
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: {program} ")


@pytest.mark.parametrize(
    ("program", "command", "offered"),
    [
        ("python -m service", "serve", True),
        ("python -m service", "quantize", False),
        ("python -m quantization", "quantize", True),
        ("python -m quantization", "serve", False),
    ],
)
def test_the_old_programs_offer_their_own_commands_only(
    program: str, command: str, offered: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"], program)
    assert (ended.value.code == 0) is offered


COMMANDS = [
    [],
    ["quantize"],
    ["sensitivity"],
    ["ablate"],
    ["inspect"],
    ["evaluate"],
    ["pairs"],
    ["download"],
    ["serve"],
    ["reconstruct"],
    ["key"],
    ["demo"],
    ["demo", "train"],
    ["demo", "export"],
    ["demo", "samples"],
]
HEAVY = (
    "torch",
    "numpy",
    "PIL",
    "httpx",
    "tqdm",
    "trimesh",
    "fastapi",
    "pydantic",
    "sqlalchemy",
    "uvicorn",
    "scipy",
)


def loaded_by(*arguments: str) -> tuple[int, list[str], str]:
    """Exit status, which of `HEAVY` a command imported, and its standard output."""
    code = (
        "import sys\n"
        "from quantvggt.command import main\n"
        "try:\n"
        "    status = main(sys.argv[1:])\n"
        "except SystemExit as ended:\n"
        "    status = ended.code\n"
        f"print(status, *sorted(set({HEAVY!r}) & set(sys.modules)), file=sys.stderr)\n"
    )
    finished = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True
    )
    status, *loaded = finished.stderr.splitlines()[-1].split()
    return int(status), loaded, finished.stdout


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_and_usage_errors_import_nothing_that_computes(command: list[str]) -> None:
    status, loaded, out = loaded_by(*command, "--help")
    assert (status, loaded) == (0, [])
    assert out.startswith("usage: quantvggt")
    assert loaded_by(*command, "--no-such-flag")[:2] == (2, [])


def test_keys_artifacts_and_names_that_lead_nowhere_import_nothing_that_computes(
    artifact: Path, tmp_path: Path
) -> None:
    assert loaded_by("key", "alice", "--file", str(tmp_path / "keys.json"))[:2] == (0, [])
    assert loaded_by("inspect", str(artifact))[:2] == (0, [])
    assert loaded_by("inspect", str(tmp_path))[:2] == (2, [])
    assert loaded_by(
        "reconstruct", "none.png", "--server", "http://x", "--out", str(tmp_path / "o")
    )[:2] == (2, [])


def test_help_lists_every_setting_with_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["serve", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    for name, field in FIELDS.items():
        assert "--" + name.replace("_", "-") in text
        assert field.metadata["description"] in text
    assert "least level logged (default info)" in text


def test_what_is_not_installed_is_named_with_what_installs_it(tmp_path: Path) -> None:
    without_torch = (
        "import sys; sys.modules['torch'] = None; "
        "from quantvggt.command import main; sys.exit(main())"
    )
    for command, extra in (
        (["quantize", "demo", "--out", str(tmp_path / "a")], "quantization"),
        (["serve", "--artifact", "a"], "service"),
    ):
        finished = subprocess.run(
            [sys.executable, "-c", without_torch, *command],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        assert finished.returncode == 2
        sentence = f"needs torch, which is not installed: pip install 'quantvggt[{extra}]'"
        assert finished.stderr == f"error: {command[0]} {sentence}\n"
