from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from quantvggt.command import main
from quantvggt.demo.run import read_samples, serving
from quantvggt.errors import BadInputError, ServiceError
from tests.service.pictures import encode, make_picture


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    """Three pictures and cameras in a row."""
    folder = tmp_path / "samples"
    folder.mkdir()
    frames = []
    for index in range(3):
        (folder / f"{index}.png").write_bytes(encode(make_picture(seed=index)))
        extrinsic = np.eye(3, 4)
        extrinsic[0, 3] = -index
        frames.append(
            {
                "file": f"{index}.png",
                "width": 120,
                "height": 90,
                "intrinsic": [[100, 0, 60], [0, 100, 45], [0, 0, 1]],
                "extrinsic": extrinsic.tolist(),
            }
        )
    (folder / "cameras.json").write_text(
        json.dumps({"description": "", "convention": "", "frames": frames})
    )
    return folder


def test_the_demo_leaves_files_and_reports_the_cameras(
    artifact: Path, samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert (
        main(
            [
                "demo",
                "--artifact",
                str(artifact),
                "--samples",
                str(samples),
                "--out",
                str(out),
                "--json",
            ]
        )
        == 0
    )
    found = json.loads(capsys.readouterr().out)
    assert found["pictures"] == 3
    assert len(found["pairs"]) == 3
    assert 0 <= found["median_rotation_error_degrees"] <= 180
    assert {"result.json", "points.ply", "overview.png", "depth/0.png", "depth/2.npy"} <= set(
        found["files"]
    )
    with Image.open(out / "overview.png") as overview:
        assert overview.width > 800


def test_a_service_that_does_not_start_is_reported(tmp_path: Path) -> None:
    with (
        pytest.raises(ServiceError, match="exit status 2"),
        serving(tmp_path / "none", lambda line: None),
    ):
        pass


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param({"frames": []}, "at least two frames", id="no frames"),
        pytest.param({}, "not a list of frames", id="no list"),
        pytest.param({"frames": [{"file": "0.png"}]}, "not a list of frames", id="no cameras"),
        pytest.param(
            {
                "frames": [
                    {"file": f"../{name}", "extrinsic": np.eye(3, 4).tolist()}
                    for name in ("0.png", "gone.png")
                ]
            },
            r"lacks gone\.png",
            id="a picture that is not there",
        ),
    ],
)
def test_samples_that_do_not_fit_are_refused(samples: Path, change: dict, words: str) -> None:
    (samples / "cameras.json").write_text(json.dumps(change))
    with pytest.raises(BadInputError, match=words):
        read_samples(samples)
