from __future__ import annotations

import argparse
import gzip
import json
from pathlib import Path

import pytest

from evaluation.datasets import READERS, check, open_scenes
from model.families.family import Grid
from quantvggt.commands.evaluate import add_scene_arguments
from scenes.readers.folder import write_folder
from scenes.synthetic.generator import SyntheticScenes

DEMO = Grid(longer_side=96, patch_size=12)


def parsed(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_scene_arguments(parser)
    return parser.parse_args(arguments)


def test_synthetic_scenes_need_no_folder_and_say_what_they_were_drawn_from() -> None:
    args = parsed("--seed", "3")
    check(args)
    opened = open_scenes(args, 2, DEMO)
    scene = next(iter(opened.scenes))
    assert (scene.name, scene.images.shape) == ("test-000003", (2, 3, 96, 96))
    assert (opened.facts["scenes"], opened.facts["size"]) == (200, [96, 96])
    assert opened.facts["distribution"]["field_of_view"] == (50.0, 80.0)


def test_pictures_come_on_the_networks_own_grid(tmp_path: Path) -> None:
    for i, scene in enumerate(SyntheticScenes("test", 2, 3, 24, 48)):
        write_folder(scene, tmp_path / f"room {i}")
    opened = open_scenes(
        parsed("--dataset", "folder", "--data", str(tmp_path), "--scenes", "1"), 2, DEMO
    )
    (found,) = opened.scenes
    assert found.images.shape == (2, 3, 48, 96)
    assert opened.facts == {"data": tmp_path.name, "longer_side": 96, "scenes_per_category": 1}


def test_categories_of_co3d_that_were_asked_for_and_are_not_there_are_named(tmp_path: Path) -> None:
    (tmp_path / "apple" / "set_lists").mkdir(parents=True)
    for name in ("frame", "sequence"):
        with gzip.open(tmp_path / "apple" / f"{name}_annotations.jgz", "wt") as file:
            json.dump([], file)
    (tmp_path / "apple" / "set_lists" / "set_lists_fewview_dev.json").write_text('{"test": []}')
    args = parsed("--dataset", "co3d", "--data", str(tmp_path), "--categories", "apple", "vase")
    check(args)
    opened = open_scenes(args, 2, DEMO)
    assert opened.expected_categories == ("apple", "vase")
    assert [name for name, _ in opened.skipped] == ["vase"]


@pytest.mark.parametrize("dataset", READERS)
def test_every_data_set_needs_a_folder_that_is_there(dataset: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"--dataset {dataset} needs --data PATH"):
        check(parsed("--dataset", dataset))
    with pytest.raises(ValueError, match=r"--data .*none: no such folder"):
        check(parsed("--dataset", dataset, "--data", str(tmp_path / "none")))
    args = parsed("--dataset", dataset, "--data", str(tmp_path))
    check(args)
    with pytest.raises(ValueError, match=str(tmp_path)):
        open_scenes(args, 2, DEMO)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--data", "."], "--data has no meaning for --dataset synthetic"),
        (["--categories", "apple"], "--categories has no meaning for --dataset synthetic"),
        (
            ["--dataset", "dtu", "--data", ".", "--size", "36", "48"],
            "--size has no meaning for --dataset dtu",
        ),
        (
            ["--dataset", "dtu", "--data", ".", "--categories", "apple"],
            "--categories has no meaning for --dataset dtu",
        ),
    ],
)
def test_options_that_do_not_go_together_are_refused(arguments: list[str], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        check(parsed(*arguments))
