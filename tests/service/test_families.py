"""Answers in the documented conventions, whatever the family of the network that is served."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from model.files.artifact import save
from model.network.network import Network
from model.reconstruct import Cameras
from model.scene.preprocess import PreprocessedImages, preprocess_images
from quantization.convert import quantize_network
from quantization.recipe import RECIPES
from service.inference.engine import Engine
from service.inference.network_pass import Pass
from service.settings import InferenceSettings, SettingsError
from tests.model.families.networks import TINY, depth_anything_3, filled
from tests.service.pictures import encode, form, make_picture
from tests.service.running import Running, Serve, problem


def _saved(net: Network, folder: Path, **provenance: object) -> Path:
    save(quantize_network(net, RECIPES["rtn"]), folder, provenance=provenance)
    return folder


@pytest.mark.parametrize(
    ("name", "family", "unit"),
    [
        ("any-view", "depth_anything_3", "arbitrary"),
        ("pi3", "pi3", "arbitrary"),
        ("pi3x", "pi3", "metre"),
    ],
)
def test_a_scene_of_several_pictures(
    serve: Serve, tmp_path: Path, name: str, family: str, unit: str
) -> None:
    artifact = _saved(TINY[name](), tmp_path / name, commercial_use=False, weights_licence="X")
    service = serve(artifact=artifact)
    pictures = [encode(make_picture(120, 90, seed)) for seed in range(3)]
    answer = service.client.post("/reconstruct", files=form(*pictures))
    assert answer.status_code == 200, answer.text
    result = answer.json()
    assert result["model"]["family"] == family
    assert result["model"]["size"] is None
    assert (result["model"]["weights_licence"], result["model"]["commercial_use"]) == ("X", False)
    assert result["scale"]["unit"] == unit
    first = np.array(result["pictures"][0]["extrinsic"])
    np.testing.assert_allclose(first, np.eye(3, 4), atol=1e-4)
    for picture in result["pictures"]:
        assert picture["original_size"] == {"height": 90, "width": 120}
        intrinsic = np.array(picture["intrinsic"])
        assert intrinsic[0, 2] == pytest.approx(60, abs=0.01)
        assert intrinsic[1, 2] == pytest.approx(45, abs=0.01)
        link = picture["depth"]["links"]["npy"].replace("depth", "confidence")
        confidence = np.load(io.BytesIO(service.client.get(link).content))
        assert confidence.min() >= 1
    capabilities = service.client.get("/capabilities").json()
    assert capabilities["model"]["family"] == family


def test_more_pictures_than_a_pass_takes_are_joined(serve: Serve, tmp_path: Path) -> None:
    artifact = _saved(TINY["any-view"](), tmp_path / "any-view")
    service = serve(artifact=artifact, pass_frames=4)
    pictures = [encode(make_picture(120, 90, seed)) for seed in range(7)]
    result = service.client.post("/reconstruct", files=form(*pictures)).json()
    assert len(result["pictures"]) == 7
    assert result["run"]["passes"] > 1


@pytest.mark.parametrize("name", ["any-view", "pi3x"])
def test_a_scene_that_comes_back_is_looked_at_again(
    serve: Serve, tmp_path: Path, name: str
) -> None:
    service = serve(artifact=_saved(TINY[name](), tmp_path / name), pass_frames=4)
    way = [encode(make_picture(120, 90, seed)) for seed in range(12)]
    pictures = [*way, *way[:4]]  # back at the beginning
    result = service.client.post("/reconstruct", files=form(*pictures)).json()
    assert len(result["pictures"]) == 16
    assert result["run"]["passes"] == 5
    (loop,) = result["run"]["loops"]
    first, second = loop["pictures"]
    assert second - first == 12  # the same picture
    unasked = service.client.post(
        "/reconstruct", files=form(*pictures), data={"close_loops": "false"}
    ).json()
    assert unasked["run"]["loops"] == []


def _answer(service: Running, pictures: list[bytes], cameras: list[dict]) -> dict:
    answer = service.client.post(
        "/reconstruct", files=form(*pictures), data={"cameras": json.dumps(cameras)}
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize("pass_frames", [6, 4], ids=["one pass", "several passes"])
def test_known_cameras_reach_a_network_that_takes_them(
    serve: Serve, tmp_path: Path, pass_frames: int
) -> None:
    net = filled(depth_anything_3(), std=0.2)  # in which first tokens matter for depth
    service = serve(artifact=_saved(net, tmp_path / "any-view"), pass_frames=pass_frames)
    pictures = [encode(make_picture(120, 90, seed)) for seed in range(6)]
    poses = [
        {"extrinsic": [[1, 0, 0, -0.5 * place], [0, 1, 0, 0.1 * place**2], [0, 0, 1, 0]]}
        for place in range(6)
    ]
    lens = {"intrinsic": [[130, 0, 60], [0, 130, 45], [0, 0, 1]]}
    alone, told = (
        _answer(service, pictures, cameras)
        for cameras in (poses, [{**pose, **lens} for pose in poses])
    )

    def shapes(result: dict) -> np.ndarray:
        """Depth of every picture but for the scale of the scene."""
        link = (picture["depth"]["links"]["npy"] for picture in result["pictures"])
        depth = np.stack([np.load(io.BytesIO(service.client.get(each).content)) for each in link])
        return depth / depth.mean()

    assert np.abs(shapes(told) / shapes(alone) - 1).max() > 0.01
    assert told["scale"]["unit"] == "metre"
    assert told["scale"]["provenance"] == "known cameras"
    intrinsics = np.array([picture["intrinsic"] for picture in told["pictures"]])
    np.testing.assert_allclose(intrinsics, [lens["intrinsic"]] * 6, rtol=1e-5)


class Told(Engine):
    """Notes the frames and the known cameras of every pass."""

    def load(self) -> None:
        super().load()
        self.passes: list[tuple[torch.Tensor, Cameras | None]] = []

    def infer(
        self, batch: PreprocessedImages, observer: Any = lambda stage, share: None, *rest: Any
    ) -> Pass:
        self.passes.append((batch.images, rest[-1]))
        return super().infer(batch, observer, *rest)


def test_every_pass_is_told_the_cameras_of_its_own_pictures_also_one_that_looks_again(
    serve: Serve, tmp_path: Path
) -> None:
    artifact = _saved(TINY["any-view"](), tmp_path / "any-view")
    service = serve(Told, artifact=artifact, pass_frames=4)
    way = [encode(make_picture(120, 90, seed)) for seed in range(12)]
    pictures = [*way, *way[:4]]  # back at the beginning
    cameras = [
        {
            "extrinsic": [[1, 0, 0, place], [0, 1, 0, 0.1 * place**2], [0, 0, 1, 0]],
            "intrinsic": [[130 + place, 0, 60], [0, 130, 45], [0, 0, 1]],
        }
        for place in range(16)
    ]
    result = _answer(service, pictures, cameras)
    (loop,) = result["run"]["loops"]
    chunks = result["run"]["passes"]
    shown: dict[int, torch.Tensor] = {}
    for images, known in service.engine.passes[-chunks - 1 :]:
        extrinsics, intrinsics = known
        places = [int(x) for x in extrinsics[:, 0, 3]]
        assert extrinsics.tolist() == [cameras[place]["extrinsic"] for place in places]
        assert intrinsics.tolist() == [cameras[place]["intrinsic"] for place in places]
        for place, image in zip(places, images, strict=True):
            assert torch.equal(shown.setdefault(place, image), image)
    assert sorted(shown) == list(range(16))
    assert set(loop["pictures"]) < set(places)  # the last pass looked again


def test_known_cameras_far_from_the_origin_tell_a_network_the_same(tmp_path: Path) -> None:
    net = filled(depth_anything_3(), std=0.2)
    engine = Engine(InferenceSettings(artifact=_saved(net, tmp_path / "any-view")))
    engine.load()
    batch = preprocess_images([make_picture(120, 90, seed) for seed in range(3)], "fit", 56, 14)
    extrinsics = torch.eye(3, 4, dtype=torch.float64).repeat(3, 1, 1)
    extrinsics[:, 0, 3] = torch.tensor([0.0, -0.5, -1.2])
    intrinsics = torch.tensor([[130.0, 0, 60], [0, 130, 45], [0, 0, 1]]).double().repeat(3, 1, 1)
    far = extrinsics.clone()
    far[:, 0, 3] += 5e6  # as in a national grid, in metres
    near, away = (
        engine.infer(batch, cameras=(each, intrinsics)).reconstruction for each in (extrinsics, far)
    )
    torch.testing.assert_close(near.depth, away.depth, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(near.extrinsics, away.extrinsics, rtol=1e-4, atol=1e-4)


def _with_exif(focal_35: int) -> bytes:
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.FocalLengthIn35mmFilm] = focal_35
    buffer = io.BytesIO()
    make_picture(120, 90).save(buffer, "JPEG", exif=exif)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def metric(serve: Serve, tmp_path_factory: pytest.TempPathFactory) -> Running:
    net = filled(depth_anything_3("metric"))
    return serve(artifact=_saved(net, tmp_path_factory.mktemp("metric") / "artifact"))


def _codes(result: dict) -> set[str]:
    return {warning["code"] for warning in result["warnings"]}


def test_metres_of_one_picture_need_its_focal_length(metric: Running) -> None:
    picture = encode(make_picture(120, 90))
    guessed = metric.client.post("/reconstruct", files=form(picture)).json()
    assert guessed["scale"]["unit"] == "arbitrary"
    assert "assumed-focal-length" in _codes(guessed)
    focal = guessed["pictures"][0]["intrinsic"][0][0]
    assert focal == pytest.approx(60 / np.tan(np.radians(30)), rel=1e-4)

    known = [{"intrinsic": [[2 * focal, 0, 60], [0, 2 * focal, 45], [0, 0, 1]]}]
    told = metric.client.post(
        "/reconstruct", files=form(picture), data={"cameras": json.dumps(known)}
    ).json()
    assert told["scale"]["unit"] == "metre"
    assert "assumed-focal-length" not in _codes(told)
    assert told["pictures"][0]["intrinsic"][0][0] == pytest.approx(2 * focal, rel=1e-4)
    before, after = (found["pictures"][0]["depth"]["max"] for found in (guessed, told))
    assert after == pytest.approx(2 * before, rel=1e-3)


def test_the_focal_length_may_come_from_the_file(metric: Running) -> None:
    result = metric.client.post("/reconstruct", files=form(_with_exif(24))).json()
    assert result["scale"]["unit"] == "metre"
    assert "focal-length-from-exif" in _codes(result)
    expected = 24 * np.hypot(120, 90) / np.hypot(36, 24)
    assert result["pictures"][0]["intrinsic"][0][0] == pytest.approx(expected, rel=1e-3)


def test_a_model_for_single_pictures_refuses_several(metric: Running) -> None:
    pictures = [encode(make_picture(120, 90, seed)) for seed in range(2)]
    answer = metric.client.post("/reconstruct", files=form(*pictures))
    assert "single pictures" in problem(answer, 413, "too-many-pictures")["detail"]


@pytest.mark.parametrize(
    ("licence", "commercial", "words"),
    [
        (
            "Some-1.0",
            False,
            "licence of other, Some-1.0, does not allow it: serve another artifact, or leave out "
            "--require-commercial.$",
        ),
        ("Some-1.0", None, "licence of other, Some-1.0, is not known to allow it: "),
        (None, None, "licence of other is not known: .* if it is a copy of public weights"),
    ],
)
def test_weights_for_commercial_use_can_be_required(
    tmp_path: Path, licence: str | None, commercial: bool | None, words: str
) -> None:
    net = TINY["any-view"]()
    for name, allowed in (("other", commercial), ("free", True)):
        facts = {"checkpoint": name, "weights_licence": licence, "commercial_use": allowed}
        _saved(net, tmp_path / name, **facts)
    required = {"require_commercial": True}
    Engine(InferenceSettings(artifact=tmp_path / "free", **required)).check_licence()
    Engine(InferenceSettings(artifact=tmp_path / "other")).check_licence()
    with pytest.raises(SettingsError, match=words):
        Engine(InferenceSettings(artifact=tmp_path / "other", **required)).check_licence()
