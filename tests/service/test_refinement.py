"""Refinement through HTTP and through the command: what it gives, and that nothing that goes wrong
in it costs more than the refinement."""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quantvggt.command import main
from refinement import process
from service.settings import SettingsError, load_settings
from tests.service.pictures import form
from tests.service.rooms import black, room, standing_video
from tests.service.running import PATIENCE, Running, Serve, problem, wait_until

Reconstruct = Callable[..., dict[str, Any]]


@pytest.fixture(autouse=True)
def nothing_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Neither files in scratch folders nor processes."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    yield
    assert [path.name for path in scratch.iterdir() if path.name.startswith("refinement")] == []
    assert children() == []


@pytest.fixture(scope="module")
def service(serve: Serve) -> Running:
    return serve()


def children() -> list[int]:
    """Processes of this one that refine."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            command = (folder / "cmdline").read_bytes()
        except (OSError, IndexError):
            continue
        if parent == os.getpid() and b"refinement.child" in command:
            found.append(int(folder.name))
    return found


def post(service: Running, pictures: Any, **options: str) -> dict[str, Any]:
    files: Any = pictures
    if not isinstance(pictures, dict):
        files = form(*pictures)
    answer = service.client.post(
        "/reconstruct", files=files, data={"refine": "cameras", **options}, timeout=PATIENCE
    )
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def command(artifact: Path, tmp_path: Path, pictures: Any, **options: str) -> dict[str, Any]:
    folder = tmp_path / "pictures"
    folder.mkdir(exist_ok=True)
    for index, data in enumerate(pictures):
        (folder / f"{index}.jpg").write_bytes(data)
    refine = options.pop("refine", "cameras")
    more = [f"--option={name}={value}" for name, value in options.items()]
    out = tmp_path / "result"
    call = ["reconstruct", str(folder), "--artifact", str(artifact), "--out", str(out)]
    assert main([*call, "--overwrite", "--refine", refine, *more]) == 0
    found: dict[str, Any] = json.loads((out / "result.json").read_text())
    return found


@pytest.fixture(params=["http", "command"])
def reconstruct(request: pytest.FixtureRequest, artifact: Path, tmp_path: Path) -> Reconstruct:
    """Through either way in."""
    if request.param == "http":
        service = request.getfixturevalue("service")
        return lambda pictures, **options: post(service, pictures, **options)
    return lambda pictures, **options: command(artifact, tmp_path, pictures, **options)


def is_unrefined(result: dict[str, Any], reason: str) -> None:
    """The network's cameras stand, for this reason."""
    assert result["refinement"]["reason"]["code"] == reason
    assert (result["refinement"]["kept"], result["refinement"]["method"]) == (0, "none")
    assert {picture["source"] for picture in result["pictures"]} == {"network"}
    assert "not-refined" in {warning["code"] for warning in result["warnings"]}


def cameras(result: dict[str, Any]) -> list[Any]:
    return [
        (picture["extrinsic"], picture["intrinsic"], picture["depth"]["max"])
        for picture in result["pictures"]
    ]


def test_cameras_are_refined_and_the_result_says_how_well(reconstruct: Reconstruct) -> None:
    result = reconstruct(room())
    refinement = result["refinement"]
    assert (refinement["asked"], refinement["kept"], refinement["reason"]) == ("cameras", 3, None)
    assert refinement["support"] > 0.8 > refinement["network_support"]
    assert refinement["points"] > 20
    assert {"features", "matching", "cameras"} <= set(result["timings"])
    for picture in result["pictures"]:
        assert picture["source"] == "refined"
        assert picture["share"] > 0.6
        assert picture["observations"] >= 20
    np.testing.assert_allclose(result["pictures"][0]["extrinsic"], np.eye(4)[:3], atol=1e-6)


def test_without_being_asked_nothing_is_refined_or_kept(service: Running) -> None:
    result = post(service, room(), refine="off")
    assert result["refinement"] is None
    (arrays,) = service.result_folder(result["id"]).glob("arrays*")
    assert b"picture_0" not in arrays.read_bytes()[:4096]


def test_a_service_refines_by_default_if_it_is_told_so(serve: Serve) -> None:
    service = serve(refine="cameras")
    answer = service.client.post("/reconstruct", files=form(*room()), timeout=PATIENCE).json()
    assert answer["refinement"]["kept"] == 3
    assert post(service, room(), refine="off")["refinement"] is None
    assert service.client.get("/capabilities").json()["refinement"]["default"] == "cameras"


def test_originals_lie_with_the_result_and_go_with_it(service: Running) -> None:
    result = post(service, room())
    job = service.application.store.get(result["id"])
    assert job is not None
    scene = service.application.storage.scene(job.result)
    assert [bytes(original) for original in scene.originals] == list(room())
    assert scene.sparse is not None
    assert job.bytes > sum(len(picture) for picture in room())
    folder = service.result_folder(result["id"])
    wait_until(lambda: not list((service.data_dir / "incoming").iterdir()))
    service.client.delete(f"/reconstructions/{result['id']}")
    assert not folder.exists()


def test_the_same_request_gives_the_earlier_result_and_another_refinement_does_not(
    service: Running,
) -> None:
    first = post(service, room())
    assert post(service, room())["id"] == first["id"]
    assert post(service, room(), refine_distortion="none")["id"] != first["id"]


def test_a_known_distance_scales_what_was_refined(service: Running) -> None:
    plain = post(service, room())
    distance = '{"a":{"picture":0,"x":60,"y":128},"b":{"picture":0,"x":200,"y":128},"metres":2}'
    result = post(service, room(), known_distance=distance)
    assert result["scale"]["provenance"] == "known distance"
    factor = result["scale"]["factor"]
    for scaled, before in zip(result["pictures"], plain["pictures"], strict=True):
        moved = np.array(before["extrinsic"])
        moved[:, 3] *= factor
        np.testing.assert_allclose(scaled["extrinsic"], moved, atol=1e-4)
    scenes = [
        service.application.storage.scene(job.result)
        for job in map(service.application.store.get, (plain["id"], result["id"]))
        if job is not None
    ]
    before, after = (scene.sparse for scene in scenes)
    assert before is not None
    assert after is not None
    np.testing.assert_allclose(after.xyz, factor * before.xyz, rtol=1e-5)


def test_progress_names_the_stages_of_the_refinement(service: Running) -> None:
    accepted = service.client.post(
        "/reconstruct",
        files=form(*room(1)),
        data={"refine": "cameras"},
        headers={"Prefer": "respond-async"},
    ).json()
    with service.client.stream(
        "GET", f"/reconstructions/{accepted['id']}/events", timeout=PATIENCE
    ) as events:
        told = [
            json.loads(line.removeprefix("data: "))
            for line in events.iter_lines()
            if line.startswith("data: ")
        ]
    stages = list(dict.fromkeys(news.get("stage") for news in told if news.get("stage")))
    assert "features" in stages
    assert stages.index("features") < stages.index("store")
    shares = [news["progress"] for news in told]
    assert shares == sorted(shares)


def test_a_dry_run_predicts_the_refinement_too(service: Running) -> None:
    asked = {"dry_run": "true"}
    plain = service.client.post("/reconstruct", files=form(*room()), data=asked).json()
    dry = service.client.post(
        "/reconstruct", files=form(*room()), data={**asked, "refine": "dense"}
    ).json()
    assert "refinement" not in plain
    assert dry["refinement"]["predicted_seconds"] > 0
    assert 2**31 >= dry["refinement"]["predicted_memory_bytes"] > 0
    assert dry["predicted_seconds"] > plain["predicted_seconds"]
    assert dry["predicted_memory_bytes"] == plain["predicted_memory_bytes"]


def test_refinements_are_counted_by_how_they_ended(service: Running) -> None:
    def count(outcome: str) -> float:
        return service.metric(f'quantvggt_refinements_total{{outcome="{outcome}"}}')

    before = count("refined"), count("failed")
    post(service, room(2))
    post(service, room(2), refine_seconds="0.01")
    assert (count("refined"), count("failed")) == (before[0] + 1, before[1] + 1)
    assert service.metric('quantvggt_stage_seconds_count{stage="features"}') >= 1


# What goes wrong


def test_out_of_time_the_answer_is_the_networks(reconstruct: Reconstruct) -> None:
    result = reconstruct(room(), refine_seconds="0.05")
    is_unrefined(result, "time-limit")
    assert cameras(result) == cameras(reconstruct(room(), refine="off"))


def test_a_process_that_crashes_costs_only_the_refinement(
    reconstruct: Reconstruct, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "_MODULE", "tests.service.crashing_child")
    is_unrefined(reconstruct(room(3)), "crashed")


def test_a_process_that_is_killed_costs_only_the_refinement(service: Running) -> None:
    accepted = service.client.post(
        "/reconstruct",
        files=form(*room(4)),
        data={"refine": "cameras"},
        headers={"Prefer": "respond-async"},
    ).json()
    wait_until(lambda: bool(children()))
    for child in children():
        os.kill(child, signal.SIGKILL)
    is_unrefined(service.wait_for_state(accepted["id"], "succeeded", "failed"), "crashed")


def test_out_of_memory_the_answer_is_the_networks(
    serve: Serve, artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_unrefined(post(serve(refine_memory=2**24), room()), "memory-limit")


def test_without_the_extra_the_answer_is_the_networks_with_the_reason(
    reconstruct: Reconstruct, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pycolmap", None)
    is_unrefined(reconstruct(room(5)), "colmap-not-installed")


def test_without_the_extra_a_service_that_is_to_refine_does_not_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "pycolmap", None)
    assert load_settings({"artifact": "a"}, {}).refinement.refine == "off"
    with pytest.raises(SettingsError, match=r"--refine dense: .*quantvggt\[refinement\]"):
        load_settings({"artifact": "a", "refine": "dense"}, {})


def test_pictures_that_show_nothing_leave_the_networks_cameras(reconstruct: Reconstruct) -> None:
    result = reconstruct(black(3))
    assert result["refinement"]["kept"] == 0
    assert result["refinement"]["reason"]["code"] not in ("crashed", "failed")


def test_one_foreign_picture_among_four_keeps_the_networks_camera(
    reconstruct: Reconstruct,
) -> None:
    result = reconstruct([*room(), room(7)[0]])
    assert [picture["source"] for picture in result["pictures"]] == ["refined"] * 3 + ["network"]
    assert result["refinement"]["kept"] == 3
    assert "partly-refined" in {warning["code"] for warning in result["warnings"]}


def test_a_camera_that_stands_still_refines_nothing(service: Running) -> None:
    result = post(service, {"video": ("v.mp4", standing_video(), "video/mp4")})
    assert result["refinement"]["kept"] == 0
    assert len(result["pictures"]) == 4


def test_one_picture_alone_is_not_refined(reconstruct: Reconstruct) -> None:
    is_unrefined(reconstruct(room()[:1]), "one-picture")


def test_cancelling_ends_the_process_at_once(service: Running) -> None:
    accepted = service.client.post(
        "/reconstruct",
        files=form(*room(6, 4)),
        data={"refine": "cameras"},
        headers={"Prefer": "respond-async"},
    ).json()
    wait_until(lambda: bool(children()))
    service.client.delete(f"/reconstructions/{accepted['id']}")
    service.wait_for_state(accepted["id"], "cancelled")
    assert children() == []


def test_an_options_value_that_is_none_is_refused(service: Running) -> None:
    answer = service.client.post("/reconstruct", files=form(*room()), data={"refine": "depth"})
    assert problem(answer, 422, "invalid-option")["option"] == "refine"
    answer = service.client.post(
        "/reconstruct", files=form(*room()), data={"refine": "dense", "refine_pixels": "100"}
    )
    assert problem(answer, 422, "invalid-option")["option"] == "refine_pixels"
