from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from quantvggt.command import main

ROOT = Path(__file__).parents[2]


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
