from __future__ import annotations

import json
from pathlib import Path

import pytest

from model.files.artifact import load, read_manifest
from model.files.domain import Domain
from quantization import command
from quantvggt.command import main

QUICK = ["--samples", "3", "--frames", "2", "--pool", "5"]


def _quantize(checkpoint: Path, out: Path, *more: str) -> int:
    return main(["quantize", "--checkpoint", str(checkpoint), "--out", str(out), *more])


def test_calibration_is_recorded_in_the_manifest_and_reported_beside_it(
    checkpoint: Path, tmp_path: Path
) -> None:
    out = tmp_path / "artifact"
    assert _quantize(checkpoint, out, "--calibration", "synthetic", *QUICK) == 0
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["recipe"]["name"] == "best"
    assert manifest["calibration"]["split"] == "calibration"
    assert len(manifest["calibration"]["samples"]) == 3
    assert manifest["domain"] is None, "the checkpoint does not say what it was trained on"
    assert load(out).config.embed_dim == 32
    report = json.loads((out / "report.json").read_text())
    assert len(report["layers"]) == len(manifest["layers"]) == 24
    assert (out / "report.png").read_bytes().startswith(b"\x89PNG")
    assert "| aggregator.frame_blocks.0.attn.qkv | w4a4 |" in (out / "report.md").read_text()
    assert not (tmp_path / ".artifact.blocks").exists(), (
        "finished blocks are removed once the artifact is there"
    )


def test_what_the_checkpoint_was_trained_on_is_recorded_in_the_manifest(
    checkpoint: Path, tmp_path: Path
) -> None:
    domain = Domain("drawn rooms", photographs=False)
    (checkpoint / "domain.json").write_text(json.dumps(domain.to_dict()))
    assert _quantize(checkpoint, tmp_path / "artifact") == 0
    assert read_manifest(tmp_path / "artifact")["domain"] == domain.to_dict()


def test_the_same_command_gives_the_same_artifact(checkpoint: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        assert _quantize(checkpoint, tmp_path / name, "--calibration", "synthetic", *QUICK) == 0
    for file in ("manifest.json", "model.safetensors"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_a_killed_command_goes_on_where_it_was(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "artifact"

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command.artifact, "save", killed)
    assert _quantize(checkpoint, out, "--calibration", "synthetic", *QUICK) == 130
    monkeypatch.undo()
    assert len(list((tmp_path / ".artifact.blocks").glob("*.safetensors"))) == 6
    assert _quantize(checkpoint, out, "--calibration", "synthetic", "--seed", "1", *QUICK) == 2, (
        "other samples"
    )
    assert _quantize(checkpoint, out, "--calibration", "synthetic", *QUICK) == 0


def test_reduced_arithmetic_is_recorded_and_comes_back(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "artifact"
    assert _quantize(checkpoint, out, "--attention", "int8", "--dense-heads", "bfloat16") == 0
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["execution"] == {"attention": "int8", "dense_heads": "bfloat16"}
    net = load(out)
    assert (net.attention, net.dense_heads) == ("int8", "bfloat16")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["--recipe", "best"],
            "recipe best looks at activations: name calibration data by --calibration",
        ),
        (["--overrides", "{tmp}/nothing.json"], "expected JSON with layer names and schemes"),
        (["--calibration", "{tmp}/nothing"], "nor a folder of photographs"),
        (
            ["--recipe", "quarot", "--calibration", "{tmp}/nothing"],
            "--calibration has no meaning for recipe quarot",
        ),
        (["--data", "{tmp}"], "--data has no meaning for recipe quarot"),
        (["--pool", "9"], "--pool has no meaning for recipe quarot"),
        (["--samples", "20"], "--samples has no meaning for recipe quarot"),
        (["--frames", "4"], "--frames has no meaning for recipe quarot"),
        (["--sampling", "nfds"], "--sampling has no meaning for recipe quarot"),
        (["--propagate", "float"], "--propagate has no meaning for recipe quarot"),
        (
            ["--calibration", "synthetic", "--data", "{tmp}"],
            "--data has no meaning for --calibration synthetic",
        ),
    ],
)
def test_what_is_missing_is_named_in_one_sentence(
    arguments: list[str],
    sentence: str,
    checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert (
        _quantize(
            checkpoint, tmp_path / "new", *(argument.format(tmp=tmp_path) for argument in arguments)
        )
        == 2
    )
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1
    assert sentence in error[0]


def test_a_checkpoint_is_named_once(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["quantize", "--out", str(tmp_path / "new")]) == 2
    assert "name one checkpoint" in capsys.readouterr().err
