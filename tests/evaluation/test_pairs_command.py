from __future__ import annotations

import json
from pathlib import Path

import pytest

from quantvggt.command import main
from scenes.readers.folder import write_folder
from scenes.synthetic.generator import SyntheticScenes


def test_sets_and_folders_are_scored_beside_the_predictor_that_does_not_look(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in (3, 4):
        write_folder(SyntheticScenes("test", 1, 3, 96, 96, seed=seed)[0], tmp_path / f"room{seed}")
    arguments = [
        "pairs",
        "--model",
        "demo",
        "--sets",
        "std",
        "free",
        "--scenes",
        "8",
        "--data",
        str(tmp_path),
    ]
    assert main([*arguments, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert list(document["results"]) == ["std", "free", "room3", "room4"]
    assert document["results"]["std"]["model"]["all"]["pairs"] == 8
    assert document["results"]["room3"]["model"]["all"]["pairs"] == 3
    rooms = document["results"]["std"]
    assert rooms["model"]["all"]["rotation_deg"] < rooms["sideways"]["all"]["rotation_deg"]

    assert main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:4] == ["set", "turn", "pairs", "AUC@30"]
    assert len([line for line in lines if line.split()[0] == "room4"]) == 5


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "nothing to score"),
        (["--sets", "std", "--scenes", "0"], "--scenes is 0"),
        (["--data", "/nowhere"], "/nowhere"),
    ],
)
def test_an_impossible_request_is_one_clear_sentence(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pairs", "--model", "demo", *arguments]) == 2
    assert sentence in capsys.readouterr().err
