from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from model.files.artifact import load
from model.files.checkpoint import DEMO_CHECKPOINT
from model.network import execution
from quantvggt.command import main


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("quantize") / "artifact"
    assert main(["quantize", "demo", "--out", str(folder)]) == 0
    return folder


def test_quantize_writes_an_artifact_that_loads(artifact: Path) -> None:
    assert load(artifact).config.img_size == 96


def test_quantize_reports_what_it_did_as_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "artifact"
    assert (
        main(
            [
                "quantize",
                "demo",
                "--out",
                str(folder),
                "--aggregator",
                "w8a8",
                "--heads",
                "camera",
                "depth",
                "--json",
            ]
        )
        == 0
    )
    result = json.loads(capsys.readouterr().out)
    assert result["artifact"] == str(folder)
    assert result["heads"] == "camera, depth"
    assert "w8a8" in result["quantised layers"]
    assert result["bytes"] == (folder / "model.safetensors").stat().st_size


def test_the_same_command_gives_the_same_bytes(artifact: Path, tmp_path: Path) -> None:
    assert main(["quantize", "demo", "--out", str(tmp_path / "again")]) == 0
    first, again = (
        (folder / "model.safetensors").read_bytes() for folder in (artifact, tmp_path / "again")
    )
    assert first == again


def test_progress_goes_to_standard_error_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["quantize", "demo", "--out", str(tmp_path / "artifact"), "--json"])
    printed = capsys.readouterr()
    assert "quantising layers" in printed.err
    json.loads(printed.out)


def test_inspect_prints_what_is_in_an_artifact(
    artifact: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", str(artifact), "--layers"]) == 0
    text = capsys.readouterr().out
    assert "camera, depth, point" in text
    assert "aggregator.global_blocks.0.attn.qkv" in text
    assert "calibration       none" in text
    assert "execution         attention float, dense heads float32" in text


def test_inspect_says_what_this_machine_computes_otherwise(
    artifact: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fast = shutil.copytree(artifact, tmp_path / "fast")
    manifest = json.loads((fast / "manifest.json").read_text())
    manifest["execution"]["dense_heads"] = "bfloat16"
    (fast / "manifest.json").write_text(json.dumps(manifest))
    monkeypatch.setattr(execution, "computes_bfloat16", lambda device: False)
    assert main(["inspect", str(fast)]) == 0
    assert (
        "dense heads bfloat16 (dense heads run in float32: this cpu is slower"
        in capsys.readouterr().out
    )


def test_inspect_prints_the_manifest_as_json(
    artifact: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", str(artifact), "--json"]) == 0
    manifest = json.loads(capsys.readouterr().out)
    assert manifest["provenance"]["checkpoint"] == "demo"
    assert len(manifest["provenance"]["checkpoint_sha256"]) == 64


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["inspect", "nowhere"], "no artifact at nowhere: not a folder"),
        (["quantize", "nowhere", "--out", "{tmp}/new"], "no checkpoint at 'nowhere'"),
        (
            ["quantize", "demo", "--out", "{tmp}"],
            "exists; choose another folder or pass --overwrite",
        ),
        (
            ["quantize", "demo", "--out", "{tmp}/new", "--heads", "track"],
            "head 'track' was asked for",
        ),
        (["download", "nowhere"], "no checkpoint at 'nowhere'"),
        (["evaluate", "--model", "demo", "--device", "abacus"], "--device is 'abacus'"),
        (
            ["demo", "export", "--run", "{tmp}/nothing", "--out", "{tmp}/new"],
            "run the training first",
        ),
    ],
)
def test_bad_input_gets_one_sentence_and_status_2(
    arguments: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([argument.format(tmp=tmp_path) for argument in arguments]) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1
    assert sentence in error[0]


@pytest.mark.parametrize(
    "arguments", [[], ["dance"], ["quantize", "demo"], ["quantize", "demo", "--aggregator", "w3a3"]]
)
def test_a_wrong_command_line_exits_with_status_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2


def test_samples_are_written_where_the_json_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [
        "demo",
        "samples",
        "--out",
        str(tmp_path / "scene"),
        "--views",
        "2",
        "--size",
        "24",
        "36",
        "--json",
    ]
    assert main(command) == 0
    folder = Path(json.loads(capsys.readouterr().out)["out"])
    assert sorted(file.name for file in folder.iterdir()) == ["00.png", "01.png", "cameras.json"]


@pytest.mark.parametrize(
    "command",
    [
        ["quantize", "--out", "artifact", "--checkpoint"],
        [
            "quantize",
            "--out",
            "artifact",
            "--calibration",
            "synthetic",
            "--samples",
            "1",
            "--checkpoint",
        ],
        ["evaluate", "--dataset", "synthetic", "--scenes", "1", "--views", "2", "--model"],
    ],
    ids=["quantize", "quantize with calibration", "evaluate"],
)
def test_a_checkpoint_with_nan_is_refused(
    command: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    state = load_file(DEMO_CHECKPOINT / "model.safetensors")
    state["aggregator.global_blocks.1.attn.qkv.weight"][0, 0] = torch.nan
    save_file(state, "model.safetensors")
    shutil.copy(DEMO_CHECKPOINT / "config.json", tmp_path)
    assert main([*command, "model.safetensors"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert (
        "model.safetensors: aggregator.global_blocks.1.attn.qkv.weight holds 1 of 49152 values "
        "that are NaN" in error
    )
    assert not Path("artifact").exists()


@pytest.mark.parametrize(
    "command", [["quantize", "--out", "artifact"], ["download"], ["evaluate", "--model"]]
)
def test_a_hub_that_may_not_be_asked_is_one_line(
    command: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    assert main([*command, "someone/vggt"]) == 2
    printed = capfd.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: someone/vggt is not in the cache")
    assert len(printed.err.splitlines()) == 1
