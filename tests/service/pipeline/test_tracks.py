"""Query points through the whole real path: checkpoint, quantiser, artifact, service, with every
head."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from model import VGGT
from model.families.vggt.presets import PRESETS
from model.network.config import TrackHeadConfig
from model.preprocess import preprocess_images
from quantvggt.command import main as quantise
from tests.service.pictures import encode, form, make_picture
from tests.service.running import Running, Serve, Tight, problem

TRACKER = TrackHeadConfig(
    features=16, corr_levels=4, corr_radius=2, hidden_size=32, depth=1, num_heads=2,
    num_virtual_tracks=4, max_scale=96, out_channels=(16, 16, 16, 16),
    intermediate_layer_idx=(0, 1, 2, 3),
)  # fmt: skip
POINTS = [[10.5, 20.5], [60.0, 45.0], [119.75, 0.25], [0.0, 89.5]]


def quantised(folder: Path, tracker: TrackHeadConfig = TRACKER) -> Path:
    """The artifact that the quantiser makes of a checkpoint with random weights and all heads."""
    torch.manual_seed(0)
    net = VGGT(replace(PRESETS["demo"], track_head=tracker))
    checkpoint = folder / "checkpoint"
    checkpoint.mkdir()
    save_file(net.state_dict(), checkpoint / "model.safetensors")
    (checkpoint / "config.json").write_text(json.dumps(net.config.to_dict()))
    assert quantise(["quantize", str(checkpoint), "--out", str(folder / "artifact"), "--json"]) == 0
    return folder / "artifact"


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return quantised(tmp_path_factory.mktemp("all heads"))


@pytest.fixture(scope="module")
def service(serve: Serve) -> Running:
    return serve()


def pictures(*sizes: tuple[int, int]) -> list[bytes]:
    return [encode(make_picture(width, height, seed)) for seed, (width, height) in enumerate(sizes)]


def ask(
    service: Running, sent: list[bytes], points: Any = POINTS, **options: str
) -> dict[str, Any]:
    options["query_points"] = json.dumps(points)
    answer = service.client.post("/reconstruct", files=form(*sent), data=options)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def tracks_of(service: Running, result: dict[str, Any]) -> list[dict[str, Any]]:
    """The frames of tracks.json, checked for what holds of every one."""
    document = service.client.get(result["links"]["tracks"]).json()
    assert "pixel" in document["conventions"]
    frames: list[dict[str, Any]] = document["frames"]
    assert len(frames) == len(result["pictures"])
    count = len(json.loads(result["options"]["query_points"]))
    for frame in frames:
        points, visibility = np.array(frame["points"]), np.array(frame["visibility"])
        assert points.shape == (count, 2)
        assert visibility.shape == np.shape(frame["confidence"]) == (count,)
        assert np.isfinite(points).all()
        for share in (visibility, np.array(frame["confidence"])):
            assert ((share >= 0) & (share <= 1)).all()
    return frames


@pytest.mark.parametrize("mode", ["fit", "crop", "pad"])
def test_a_query_point_is_where_it_was_given_in_its_own_picture(
    service: Running, mode: str
) -> None:
    result = ask(service, pictures((120, 90), (240, 180), (90, 120)), mode=mode)
    frames = tracks_of(service, result)
    np.testing.assert_allclose(frames[0]["points"], POINTS, atol=1e-3)


@pytest.mark.parametrize("mode", ["fit", "crop", "pad"])
def test_points_are_given_to_the_network_and_taken_from_it_on_each_pictures_own_grid(
    service: Running, mode: str
) -> None:
    """The network counts pixel centres from 0, the service edges; pictures of different scales show
    the difference."""
    sent = pictures((120, 90), (90, 120), (240, 180))
    calls: list[tuple[torch.Tensor, torch.Tensor]] = []
    hook = service.engine.net.track_head.register_forward_hook(
        lambda head, given, tracks: calls.append((given[2], tracks.coords[-1]))
    )
    frames = tracks_of(service, ask(service, sent, mode=mode))
    hook.remove()
    ((queries, found),) = calls
    batch = preprocess_images([Image.open(io.BytesIO(data)) for data in sent], mode, 96, 12)
    scale, offset = (
        torch.tensor([getattr(t, name) for t in batch.transforms]) for name in ("scale", "offset")
    )
    np.testing.assert_allclose(
        queries[0], torch.tensor(POINTS) * scale[0] + offset[0] - 0.5, atol=1e-4
    )
    expected = (found[0] + 0.5 - offset[:, None]) / scale[:, None]
    np.testing.assert_allclose([frame["points"] for frame in frames], expected, atol=1e-3)
    assert (expected[1:] - torch.tensor(POINTS)).abs().max() > 1


def test_a_point_that_the_mode_cuts_off_is_refused_before_any_work(service: Running) -> None:
    sent = pictures((90, 240))  # crop keeps the middle 90 of 240 rows
    for y in (10.0, 230.0):
        answer = service.client.post(
            "/reconstruct",
            files=form(*sent),
            data={"mode": "crop", "query_points": json.dumps([[45.0, y]])},
        )
        document = problem(answer, 422, "invalid-option")
        assert "crop" in document["detail"]
    ask(service, sent, [[45.0, 120.0]], mode="crop")
    ask(service, sent, [[45.0, 10.0]], mode="fit")


def test_points_are_followed_through_the_chunks_of_a_long_scene(serve: Serve) -> None:
    sent = pictures(*[(120, 90)] * 9)
    service, other = serve(pass_frames=4), serve()
    result = ask(service, sent)
    assert result["run"]["passes"] == 3
    frames = tracks_of(service, result)
    np.testing.assert_allclose(frames[0]["points"], POINTS, atol=1e-3)
    whole = tracks_of(other, ask(other, sent[:4]))
    for chunked, alone in zip(frames[:4], whole, strict=True):  # the first chunk's pass is the same
        np.testing.assert_allclose(chunked["points"], alone["points"], atol=1e-2)
    visibility = np.array([frame["visibility"] for frame in frames])
    handover = visibility[3]  # the second chunk begins with the last frame of the first one
    assert (visibility[4:7] <= handover + 1e-6).all()
    assert (visibility[7:] <= visibility[6] + 1e-6).all()


def test_tracks_are_on_the_original_grid_also_at_a_lower_resolution(serve: Serve) -> None:
    service = serve(Tight)
    result = ask(service, pictures((120, 90)))
    assert result["run"]["degraded"] == ["reduced-resolution"]
    np.testing.assert_allclose(tracks_of(service, result)[0]["points"], POINTS, atol=1e-3)


def test_pictures_too_thin_for_the_tracker_are_refused_with_the_size_that_it_needs(
    service: Running,
) -> None:
    """Halved three times, feature maps of half of 12 pixels are gone."""
    sent = pictures((800, 100))
    assert service.client.post("/reconstruct", files=form(*sent)).status_code == 200
    answer = service.client.post(
        "/reconstruct", files=form(*sent), data={"query_points": "[[10, 10]]"}
    )
    assert "16" in problem(answer, 422, "invalid-option")["detail"]


def test_the_archive_and_the_capabilities_know_of_tracks(service: Running) -> None:
    capabilities = service.client.get("/capabilities").json()
    assert "track" in capabilities["model"]["heads"]
    assert "tracks.json" in capabilities["output_formats"]["files"]
    result = ask(service, pictures((120, 90)))
    assert "tracks.json" in service.client.get(result["links"]["manifest"]).json()["files"]
    plain = service.client.post("/reconstruct", files=form(*pictures((120, 90)))).json()
    assert plain["links"]["tracks"] is None
    problem(service.client.get(f"/reconstructions/{plain['id']}/tracks.json"), 422, "no-tracks")


def test_as_many_points_as_are_allowed_are_followed(service: Running) -> None:
    points = [[x, y] for x in range(0, 120, 4) for y in range(0, 90, 3)]
    frames = tracks_of(service, ask(service, pictures((120, 90), (120, 90)), points))
    np.testing.assert_allclose(frames[0]["points"], points, atol=1e-3)
    too_many = {"query_points": json.dumps(points + points)}
    problem(
        service.client.post("/reconstruct", files=form(*pictures((9, 9))), data=too_many),
        422,
        "invalid-option",
    )


def test_a_tracker_without_confidences_says_so(serve: Serve, tmp_path: Path) -> None:
    service = serve(artifact=quantised(tmp_path, replace(TRACKER, predict_conf=False)))
    result = ask(service, pictures((120, 90), (120, 90)))
    document = service.client.get(result["links"]["tracks"]).json()
    assert [frame["confidence"] for frame in document["frames"]] == [None, None]
    assert len(document["frames"][1]["visibility"]) == len(POINTS)
