from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from evaluation import command
from evaluation.command import run
from model import VGGT, families
from model.families.vggt.presets import PRESETS
from model.files.artifact import save
from quantization.convert import quantize_network
from quantization.recipe import Recipe
from quantvggt.commands.evaluate import add_arguments
from scenes.readers.folder import write_folder
from scenes.synthetic.generator import SyntheticScenes

SMALL = ["--scenes", "2", "--views", "2", "--size", "36", "48", "--bootstrap", "10"]
QUICK = ["--model", "demo", "--untrained", "0", *SMALL]


def parsed(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(arguments)


def test_a_run_writes_a_report_and_a_picture_and_prints_a_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(parsed(*QUICK, "--seed", "7", "--out", str(tmp_path))) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0].split()[:3] == ["views", "model", "AUC@30"]
    assert lines[1].split()[:3] == ["2", "demo", "untrained"]
    assert "2 views: 2/2" in err
    document = json.loads((tmp_path / "report.json").read_text())
    assert document["split"] == "test"
    assert document["seed"] == 7
    assert document["size"] == [36, 48]
    assert document["distribution"]["field_of_view"] == [50.0, 80.0]
    assert [r["name"] for r in document["results"]["2"]["model"]["records"]] == [
        "test-000007",
        "test-000008",
    ]
    assert (tmp_path / "report.png").stat().st_size > 10_000


def test_json_goes_to_standard_output_and_repeats_exactly(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found: list[dict[str, Any]] = []
    for _ in range(2):
        assert run(parsed(*QUICK, "--json")) == 0
        found.append(json.loads(capsys.readouterr().out))
    assert found[0] == found[1]
    assert found[0]["results"]["2"]["model"]["scenes"] == 2


def test_another_seed_draws_other_scenes_and_another_network_scores_differently(
    capsys: pytest.CaptureFixture[str],
) -> None:
    errors = []
    for extra in ([], ["--seed", "9"], ["--untrained", "1"]):
        run(parsed(*QUICK, "--json", *extra))
        errors.append(
            json.loads(capsys.readouterr().out)["results"]["2"]["model"]["records"][0][
                "rotation_deg"
            ]
        )
    assert errors[0] != errors[1]
    assert errors[0] != errors[2]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--size", "35", "48"], "multiples of 12"),
        (["--views", "1"], "needs at least 2"),
        (["--seed", "-1"], "--seed is -1"),
        (["--scenes", "0"], "--scenes is 0"),
    ],
)
def test_an_impossible_request_is_one_clear_sentence(arguments: list[str], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        run(parsed(*QUICK, *arguments))


def test_a_recorded_data_set_is_scored_and_what_is_missing_from_it_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "rooms"
    for i, scene in enumerate(SyntheticScenes("test", 2, 3, 24, 36)):
        write_folder(scene, root / f"room {i}")
    (root / "unfinished").mkdir()
    arguments = [
        "--model",
        "demo",
        "--untrained",
        "0",
        "--dataset",
        "folder",
        "--data",
        str(root),
        "--bootstrap",
        "10",
    ]
    assert run(parsed(*arguments, "--frames", "2", "3", "--json")) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["dataset"], document["data"], document["longer_side"]) == (
        "folder",
        "rooms",
        96,
    )
    assert str(tmp_path) not in json.dumps(document)
    report = document["results"]["3"]["model"]
    assert [record["name"] for record in report["records"]] == ["room 0", "room 1"]
    assert [len(record["rotation_deg"]) for record in report["records"]] == [3, 3]
    assert report["skipped"] == [{"scene": "unfinished", "reason": "no cameras.json"}]
    assert run(parsed(*arguments, "--frames", "2", "--scenes", "1")) == 0
    assert "skipped: unfinished (no cameras.json)" in capsys.readouterr().out


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A demo-sized network with random weights, stored the way checkpoints are."""
    torch.manual_seed(3)
    net = VGGT(PRESETS["demo"])
    folder = tmp_path / "float"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(net.config.to_dict()))
    save_file(
        {name: value.contiguous() for name, value in net.state_dict().items()},
        folder / "model.safetensors",
    )
    return folder


def artifact(checkpoint: Path, calibration: dict[str, Any] | None) -> Path:
    torch.manual_seed(3)
    recipe = Recipe().of(families.named("vggt"))
    path = checkpoint.parent / "packed"
    save(
        quantize_network(VGGT(PRESETS["demo"]), recipe),
        path,
        recipe=recipe.to_dict(),
        calibration=calibration,
    )
    return path


def test_an_artifact_is_measured_against_its_own_full_precision(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    packed = artifact(checkpoint, {"split": "calibration", "scenes": ["calibration-000000"]})
    arguments = ["--model", str(packed), "--reference", str(checkpoint), *SMALL]
    assert run(parsed(*arguments, "--json")) == 0
    document = json.loads(capsys.readouterr().out)
    result = document["results"]["2"]
    assert document["model"]["calibration"]["split"] == "calibration"
    assert document["model"]["recipe"]["aggregator"] == "w4a4"
    assert 0 < result["deviation"]["depth"]["value"] < 1
    assert result["model"]["records"] != result["reference"]["records"]
    assert str(checkpoint.parent) not in json.dumps(document)
    run(parsed(*arguments))
    assert "packed: deviation from the reference: rotation" in capsys.readouterr().out


def test_8_bit_activations_move_an_artifact_less_than_4_bit_ones(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    packed = artifact(checkpoint, {"split": "calibration", "scenes": ["calibration-000000"]})
    moved = []
    for bits in ("4", "8"):
        arguments = ["--model", str(packed), "--reference", str(checkpoint), "--activations", bits]
        assert run(parsed(*arguments, *SMALL, "--json")) == 0
        document = json.loads(capsys.readouterr().out)
        assert document["activations"] == bits
        moved.append(document["results"]["2"]["deviation"]["depth"]["value"])
    assert moved[1] < moved[0]


def test_each_pattern_of_only_is_a_row_with_what_it_keeps(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    packed = artifact(checkpoint, {"split": "calibration", "scenes": ["calibration-000000"]})
    arguments = ["--model", str(packed), "--reference", str(checkpoint), *SMALL]
    patterns = ["--only", "*.attn.qkv", "*"]
    assert run(parsed(*arguments, *patterns, "--json")) == 0
    result = json.loads(capsys.readouterr().out)["results"]["2"]
    moved = [r["deviation"]["depth"]["value"] for r in (result, *result["only"].values())]
    assert list(result["only"]) == ["*.attn.qkv", "*"]
    assert moved[2] < moved[1] < moved[0]
    assert result["kept"]["abs_rel"]["value"] > 0
    assert run(parsed(*arguments, *patterns)) == 0
    out = capsys.readouterr().out
    assert out.count("kept, %") == 4  # three networks, and what it means
    assert "8 bits: *.attn.qkv" in out


def test_answers_of_a_reference_are_kept_only_where_they_are_asked_for_again(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[command.Answer] = []
    monkeypatch.setattr(command, "Remembered", lambda answer: kept.append(answer) or answer)
    packed = artifact(checkpoint, None)
    arguments = ["--model", str(packed), "--reference", str(checkpoint), *SMALL]
    assert run(parsed(*arguments)) == 0
    assert not kept
    assert run(parsed(*arguments, "--only", "*")) == 0
    assert len(kept) == 1


def test_only_takes_an_artifact_in_4_bits(checkpoint: Path) -> None:
    with pytest.raises(ValueError, match="--only gives layers of an artifact"):
        run(parsed("--model", str(checkpoint), "--only", "*", *SMALL))
    packed = artifact(checkpoint, None)
    with pytest.raises(ValueError, match="--activations 4"):
        run(parsed("--model", str(packed), "--activations", "8", "--only", "*", *SMALL))
    with pytest.raises(ValueError, match="no layer of 4-bit activations is called so"):
        run(parsed("--model", str(packed), "--only", "*.head", *SMALL))


def test_an_artifact_calibrated_on_the_test_split_gets_no_score(checkpoint: Path) -> None:
    packed = artifact(checkpoint, {"split": "test", "scenes": []})
    with pytest.raises(ValueError, match="calibrated on"):
        run(parsed("--model", str(packed), "--scenes", "1", "--views", "2"))


def test_an_artifact_that_hides_its_calibration_data_gets_no_score(checkpoint: Path) -> None:
    packed = artifact(checkpoint, {"samples": 20})
    with pytest.raises(ValueError, match="does not say on which split"):
        run(parsed("--model", str(packed), "--scenes", "1", "--views", "2"))
