from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import httpx
import numpy as np
import pytest
import trimesh

from quantvggt.client import Client
from quantvggt.command import main
from tests.quantvggt.service_process import ServiceProcess
from tests.service.pictures import encode, make_picture

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
    process: ServiceProcess,
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
    process: ServiceProcess,
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
    process: ServiceProcess, tmp_path: Path, capsys: pytest.CaptureFixture[str]
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
    process: ServiceProcess, artifact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
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
    process: ServiceProcess, pictures: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
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
    process: ServiceProcess, pictures: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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


def test_a_run_that_failed_on_the_server_is_begun_anew_by_the_next_one(
    process: ServiceProcess, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "of-this-test-only.png"  # no stored result answers it
    make_picture(seed=267).save(picture)
    command = ["reconstruct", str(picture), "--server", process.url, "--out", str(tmp_path / "out")]
    failed = f"{process.url}/reconstructions?state=failed"
    for _ in range(2):
        before = len(httpx.get(failed).json()["reconstructions"])
        assert main([*command, "-o", "timeout=0.001"]) == 1
        assert "was stopped after" in capsys.readouterr().err
        assert len(httpx.get(failed).json()["reconstructions"]) == before + 1


def test_a_url_is_passed_on_to_the_server_which_has_the_last_word(
    process: ServiceProcess, pictures: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
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
