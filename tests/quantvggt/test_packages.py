from __future__ import annotations

import ast
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from quantvggt.packages import FOLDERS, make_importable, packages_folder
from tests.service.pictures import encode, make_picture
from tests.service.running import Serve

ROOT = Path(__file__).parents[2]
HERE = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "OMP_NUM_THREADS": "1"}


def test_in_a_checkout_the_folders_beside_the_package_are_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert packages_folder() == ROOT
    monkeypatch.setattr(sys, "path", ["elsewhere"])
    make_importable()
    make_importable()
    assert sys.path == [str(ROOT), "elsewhere"]


def test_the_folders_are_those_with_code_and_the_same_for_whoever_builds_the_wheel() -> None:
    for folder in FOLDERS:
        assert (ROOT / folder / "__init__.py").is_file()
    (packed,) = [
        statement.value
        for statement in ast.parse((ROOT / "setup.py").read_text()).body
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "FOLDERS"
    ]
    assert ast.literal_eval(packed) == FOLDERS


def test_importing_the_client_makes_nothing_of_ours_importable() -> None:
    code = (
        "import sys, quantvggt; before = list(sys.path); quantvggt.Client; "
        "assert sys.path == before"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--wheel-dir",
        str(folder),
        str(ROOT),
    ]
    subprocess.run(command, check=True)
    (built,) = folder.iterdir()
    return built


@pytest.mark.slow
def test_a_wheel_holds_every_tracked_file_of_the_project_inside_one_package(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert {name.partition("/")[0] for name in names} == {"quantvggt"}
    listed = subprocess.run(
        ["git", "ls-files", *FOLDERS], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert {f"quantvggt/_packages/{name}" for name in listed.stdout.splitlines()} <= names


@pytest.mark.slow
def test_the_base_install_reconstructs_on_a_server_without_torch(
    wheel: Path, serve: Serve, tmp_path: Path
) -> None:
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    python, command = environment / "bin" / "python", environment / "bin" / "quantvggt"
    constraints = str(ROOT / "constraints.txt")
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "-c", constraints, str(wheel)], check=True
    )

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(arguments, cwd=tmp_path, env=HERE, capture_output=True, text=True)

    assert run(python, "-c", "import torch").returncode != 0
    for arguments in ([], ["serve"], ["quantize"], ["reconstruct"], ["key"], ["demo", "train"]):
        finished = run(command, *arguments, "--help")
        assert finished.returncode == 0, finished.stderr
    assert "pip install 'quantvggt[service]'" in run(command, "serve", "--artifact", "a").stderr

    (tmp_path / "scene").mkdir()
    for number in range(2):
        (tmp_path / "scene" / f"{number}.png").write_bytes(encode(make_picture(seed=number)))
    server = f"http://127.0.0.1:{serve().port}"
    finished = run(command, "reconstruct", "scene", "--server", server, "--out", "result")
    assert finished.returncode == 0, finished.stderr
    assert (tmp_path / "result" / "points.ply").stat().st_size > 1000
    code = (
        "import sys\n"
        "from quantvggt import Client\n"
        f"result = Client({server!r}).reconstruct('scene')\n"
        "print(result.points.shape[1], len(result.depth), result.cameras[0].extrinsic.shape)\n"
        "assert not {'model', 'service', 'torch'} & set(sys.modules)\n"
    )
    finished = run(python, "-c", code)
    assert finished.stdout == "3 2 (3, 4)\n", finished.stderr
