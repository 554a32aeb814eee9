from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from model import VGGT
from model.families.family import Grid
from quantization.calibration.samples import CalibrationSet, candidates, choose, describe
from quantization.convert import reader


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    for scene, count in (("castle", 7), ("fox", 4), ("single", 1)):
        folder = tmp_path / "photographs" / scene
        folder.mkdir(parents=True)
        for i in range(count):
            Image.fromarray(random.integers(0, 255, (40, 60, 3), dtype=np.uint8)).save(
                folder / f"{i}.jpg"
            )
    return tmp_path / "photographs"


def _grid(net: VGGT) -> Grid:
    return Grid(net.config.img_size, net.config.patch_size)


def _choose(source: Path | str, net: VGGT, **changed: object) -> CalibrationSet:
    options = {"samples": 3, "frames": 2, "pool": 6, "sampling": "nfds", "seed": 0, **changed}
    return choose(str(source), net.config, reader(net), **options)  # type: ignore[arg-type]


def test_synthetic_scenes_are_of_the_calibration_split(net: VGGT) -> None:
    found, split = candidates("synthetic", _grid(net), frames=3, pool=4, seed=0)
    assert split == "calibration"
    assert len({sample.name for sample in found}) == 4
    assert all(sample.images.shape == (3, 3, 56, 56) for sample in found)


def test_every_folder_of_photographs_gives_disjoint_frames_first(
    photographs: Path, net: VGGT
) -> None:
    found, _ = candidates(str(photographs), _grid(net), frames=2, pool=6, seed=0)
    by_scene: dict[str, list[str]] = {}
    for sample in found:
        by_scene.setdefault(sample.scene, []).extend(sample.name.partition("/")[2].split("+"))
    assert set(by_scene) == {"castle", "fox"}, "one picture is no sample"
    assert len(by_scene["castle"]) == 6
    assert len(set(by_scene["castle"])) == 6


def test_a_folder_with_pictures_is_one_scene(photographs: Path, net: VGGT) -> None:
    found, _ = candidates(str(photographs / "castle"), _grid(net), frames=2, pool=2, seed=0)
    assert {sample.scene for sample in found} == {"castle"}


def test_a_phones_folders_are_scenes_at_any_depth(tmp_path: Path, net: VGGT) -> None:
    for scene in ("DCIM/100APPLE", "DCIM/101APPLE", ".trash", "DCIM/100APPLE/@eaDir/IMG_0.HEIC"):
        folder = tmp_path / scene
        folder.mkdir(parents=True)
        for i in range(2):
            picture = Image.new("RGB", (112, 84), (40 * i, 90, 160))
            picture.save(folder / f"IMG_{i}.HEIC", "HEIF")
            (folder / f"._IMG_{i}.jpg").write_bytes(b"\0\5\x16\7")
    (tmp_path / "DCIM" / "101APPLE" / "album.jpg").mkdir()
    (tmp_path / "DCIM" / "round").symlink_to(tmp_path)
    found, _ = candidates(str(tmp_path), _grid(net), frames=2, pool=2, seed=0)
    assert {sample.scene for sample in found} == {"DCIM/100APPLE", "DCIM/101APPLE"}
    assert all("._" not in sample.name for sample in found)


@pytest.mark.parametrize("sixteen", [False, True])
def test_pictures_of_16_bits_are_not_white(sixteen: bool, tmp_path: Path, net: VGGT) -> None:
    values = np.linspace(3000, 60000, 112 * 84).astype(np.uint16).reshape(84, 112)
    pixels = values if sixteen else np.round(values / 257).astype(np.uint8)
    for i in range(2):
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    (sample,), _ = candidates(str(tmp_path), _grid(net), frames=2, pool=1, seed=0)
    assert 0.4 < sample.images.mean() < 0.6


def test_the_facts_name_split_scenes_and_samples(photographs: Path, net: VGGT) -> None:
    chosen = _choose(photographs, net)
    assert chosen.facts["source"] == "photographs"
    assert set(chosen.facts["scenes"]) <= {"castle", "fox"}
    assert chosen.facts["samples"] == [sample.name for sample in chosen.samples]
    assert chosen.facts == _choose(photographs, net).facts
    assert chosen.facts["samples"] != _choose(photographs, net, seed=5)


def test_features_hold_one_similarity_for_each_later_frame(net: VGGT) -> None:
    found, _ = candidates("synthetic", _grid(net), frames=3, pool=4, seed=0)
    features = describe(net.config, reader(net), found)
    assert features.similarity.shape == (4, 2)
    # two frame and two global blocks
    assert features.means.shape == features.deviations.shape == (4, 4)
    assert features.deviations.min() > 0


def test_a_corrupted_candidate_is_the_one_that_is_left_out(net: VGGT) -> None:
    found, _ = candidates("synthetic", _grid(net), frames=2, pool=12, seed=0)
    found[5].images.copy_(
        (
            torch.rand(found[5].images.shape, generator=torch.Generator().manual_seed(0)) > 0.5
        ).float()
    )
    features = describe(net.config, reader(net), found)
    from quantization.nfds import noise_scores

    assert int(noise_scores(features.means, features.deviations, features.categories).argmax()) == 5


@pytest.mark.parametrize(
    ("source", "changed", "sentence"),
    [
        (
            "nowhere",
            {},
            "--calibration nowhere: neither synthetic, co3d, 7scenes, nor a folder of photographs",
        ),
        ("co3d", {}, "--calibration co3d needs --data PATH"),
        ("{photographs}/single", {}, "holds no scene of 2 pictures"),
        (
            "{photographs}",
            {"samples": 40},
            r"gives \d+ calibration samples of 2 frames, 40 were asked for",
        ),
        ("synthetic", {"frames": 1}, "expected at least 2 frames"),
        ("synthetic", {"samples": 0}, "--samples is 0; expected at least 1"),
    ],
)
def test_too_little_to_calibrate_on_is_one_sentence(
    source: str, changed: dict[str, object], sentence: str, photographs: Path, net: VGGT
) -> None:
    with pytest.raises(ValueError, match=sentence):
        _choose(source.format(photographs=photographs), net, **changed)


def test_an_unreadable_picture_is_named(photographs: Path, net: VGGT) -> None:
    (photographs / "fox" / "2.jpg").write_bytes(b"not a picture")
    with pytest.raises(ValueError, match=r"fox/2\.jpg: .*; remove it or replace it"):
        _choose(photographs, net)
