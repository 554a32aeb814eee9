from __future__ import annotations

import argparse
import importlib.util
import json
from pathlib import Path

import pytest

from evaluation.refined.command import run
from quantvggt.commands.evaluate import add_arguments

needs_pycolmap = pytest.mark.skipif(
    importlib.util.find_spec("pycolmap") is None, reason="pycolmap is not installed"
)


def parsed(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(["--model", "demo", *arguments])


@needs_pycolmap
def test_refined_cameras_of_a_room_score_far_above_the_network(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--views", "4", "--scenes", "1", "--size", "256", "256", "--refine", "cameras"]
    assert run(parsed(*options, "--simulated", "p2", "--out", str(tmp_path))) == 0
    document = json.loads((tmp_path / "refinement.json").read_text())
    found = document["results"]["4"]
    assert list(found) == ["demo", "demo, refined", "p2", "p2, refined"]
    assert found["demo, refined"]["auc"]["5"] > 90 > found["demo"]["auc"]["5"]
    assert found["p2, refined"]["auc"]["5"] > found["p2"]["auc"]["5"]
    assert found["demo, refined"]["placed"] == 1
    assert found["demo"]["abs_rel"] > 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:3] == ["views", "cameras", "of"]
    assert len(lines) == 7


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset", "co3d", "--data", "."], "--refine needs whole pictures"),
        (["--subsets", "0"], "--subsets is 0; expected at least 1"),
        (["--truth", "colmap"], "--truth colmap is for --dataset folder"),
        (["--dataset", "folder", "--data", ".", "--movement", "0.1"], "--movement has no meaning"),
        (["--subsets", "2"], "--subsets has no meaning for --dataset synthetic"),
        (["--movement", "2"], "movement is 2.0; expected a number from 0 to 1"),
    ],
)
def test_options_that_do_not_go_together_are_refused(arguments: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(parsed("--refine", "cameras", *arguments))


def test_a_folder_with_too_few_pictures_is_named(tmp_path: Path) -> None:
    scene = tmp_path / "small"
    scene.mkdir()
    (scene / "cameras.json").write_text('{"frames": []}')
    with pytest.raises(ValueError, match="small"):
        run(parsed("--refine", "cameras", "--dataset", "folder", "--data", str(tmp_path)))
