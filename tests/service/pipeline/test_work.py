"""What a scene goes through when it does not fit: chunks, a lower resolution, recovery from running
out of memory."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh

from model.scene.preprocess import PreprocessedImages
from service.inference.engine import Engine, Observer
from service.inference.network_pass import Pass
from tests.service.pictures import encode, form, make_picture
from tests.service.running import Running, Serve, Tight, problem, wait_until


def pictures(count: int) -> list[bytes]:
    """Windows that move along one large picture, so that they have something in common."""
    large = make_picture(400, 90, 3)
    return [encode(large.crop((20 * i, 0, 20 * i + 120, 90))) for i in range(count)]


def reconstruct(service: Running, count: int, **options: str) -> dict[str, Any]:
    answer = service.client.post("/reconstruct", files=form(*pictures(count)), data=options)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_more_frames_than_one_pass_may_have_are_chunked_and_joined(serve: Serve) -> None:
    service = serve(pass_frames=4)
    result = reconstruct(service, 9)
    assert result["run"]["degraded"] == ["chunked"]
    assert "chunked" in [warning["code"] for warning in result["warnings"]]
    assert (result["run"]["passes"], result["run"]["pass_frames"]) == (3, 4)
    assert len(result["pictures"]) == 9
    assert service.metric('quantvggt_degraded_total{step="chunked"}') == 1
    ply = service.client.get(result["links"]["points"], params={"confidence": 0}).content
    assert len(trimesh.load(io.BytesIO(ply), file_type="ply").vertices) == 9 * 96 * 72
    whole = reconstruct(serve(), 4)
    # the first chunk's world stands
    for chunked, alone in zip(result["pictures"][:4], whole["pictures"], strict=True):
        np.testing.assert_allclose(chunked["extrinsic"], alone["extrinsic"], atol=1e-4)


def test_a_request_may_have_fewer_keys_or_frames_a_pass_and_the_result_says_so(
    serve: Serve,
) -> None:
    service = serve()
    exact, fewer = (reconstruct(service, 4, attention_keys=keys) for keys in ("all", "120"))
    assert exact["run"]["exact"]
    assert exact["run"]["keys"] == {"factor": 1, "kept": 212, "of": 212, "share": 1.0}
    assert exact["run"]["degraded"] == []
    assert fewer["run"]["keys"]["factor"] > 1
    assert fewer["run"]["keys"]["kept"] < 130
    assert not fewer["run"]["exact"]
    assert fewer["run"]["degraded"] == ["fewer-keys"]
    assert fewer["pictures"][3]["extrinsic"] != exact["pictures"][3]["extrinsic"]
    assert exact["run"]["measured_seconds"] > 0
    chunked = reconstruct(service, 4, passes="3")
    assert (chunked["run"]["chunk_frames"], chunked["run"]["shared_frames"]) == (3, 1)
    assert len({result["id"] for result in (exact, fewer, chunked)}) == 3


def test_frames_are_described_only_where_a_scene_may_come_back_to_a_place(serve: Serve) -> None:
    class Noted(Engine):
        described: tuple[bool, ...] = ()

        def infer(self, *arguments: Any) -> Pass:
            done = super().infer(*arguments)
            self.described += (done.descriptors is not None,)
            return done

    service = serve(Noted, pass_frames=4)
    reconstruct(service, 4)
    assert service.engine.described == (False,)
    result = reconstruct(service, 9)
    assert service.engine.described[1:4] == (True,) * result["run"]["passes"]
    service.engine.described = ()
    reconstruct(service, 9, close_loops="false")
    assert service.engine.described == (False,) * result["run"]["passes"]


@pytest.fixture(params=["in a folder", "in an object store"])
def places(request: pytest.FixtureRequest, tmp_path: Path) -> list[dict[str, Any]]:
    """Settings of two services, the second of which takes up what the first has left."""
    if request.param == "in a folder":
        return [{"data_dir": tmp_path}] * 2
    database = request.getfixturevalue("postgres").url()
    shared = {"database": database, "object_store": request.getfixturevalue("object_store")}
    return [{"data_dir": tmp_path / name, **shared} for name in ("first", "second")]


def test_a_job_that_is_interrupted_goes_on_behind_its_last_finished_pass(
    serve: Serve, tmp_path: Path, places: list[dict[str, Any]]
) -> None:
    class Halting(Engine):
        """Does two passes and hangs in the third until it is stopped."""

        passes = 0

        def infer(self, batch: PreprocessedImages, observer: Observer, *rest: Any) -> Pass:
            self.passes += 1
            while self.passes > 2:
                observer("aggregator", 0.5)
            return super().infer(batch, observer, *rest)

    class Counting(Engine):
        passes = 0

        def infer(self, *arguments: Any) -> Pass:
            self.passes += 1
            return super().infer(*arguments)

    first = serve(Halting, pass_frames=4, **places[0])
    answer = first.client.post(
        "/reconstruct", files=form(*pictures(9)), headers={"Prefer": "respond-async"}
    )
    id = answer.json()["id"]
    wait_until(lambda: first.engine.passes == 3)
    first.stop()
    second = serve(Counting, pass_frames=4, **places[1])
    resumed = second.wait_for_state(id, "succeeded")
    assert (second.engine.passes, resumed["run"]["resumed_passes"]) == (1, 2)
    wait_until(lambda: not [*tmp_path.rglob("incoming/*")])
    whole = reconstruct(serve(pass_frames=4), 9)
    assert whole["run"]["resumed_passes"] == 0
    for a, b in zip(resumed["pictures"], whole["pictures"], strict=True):
        assert (a["extrinsic"], a["depth"]["max"]) == (b["extrinsic"], b["depth"]["max"])


def test_finished_chunks_are_told_with_cameras_and_points_while_later_ones_run(
    serve: Serve,
) -> None:
    class Waiting(Engine):
        """Does two passes and waits in the third until it is told to go on."""

        passes, go = 0, False

        def infer(self, batch: PreprocessedImages, observer: Observer, *rest: Any) -> Pass:
            self.passes += 1
            while self.passes > 2 and not self.go:
                observer("aggregator", 0.5)
                time.sleep(0.01)
            return super().infer(batch, observer, *rest)

    service = serve(Waiting, pass_frames=4)
    answer = service.client.post(
        "/reconstruct",
        files=form(*pictures(9)),
        data={"close_loops": "false"},
        headers={"Prefer": "respond-async"},
    )
    id, told = answer.json()["id"], []
    with service.client.stream("GET", f"/reconstructions/{id}/events") as events:
        for line in events.iter_lines():
            if line.startswith("data: ") and "chunk" in (found := json.loads(line[6:])):
                told.append(found)
                if len(told) == 2:
                    break
    assert [found["chunk"] for found in told] == [0, 1]
    assert {(found["chunks"], found["state"]) for found in told} == {(3, "running")}
    seen = [picture for found in told for picture in found["pictures"]]
    assert [picture["index"] for picture in seen] == list(range(7))
    for found in told:
        ply = service.client.get(found["links"]["points"]).content
        cloud = trimesh.load(io.BytesIO(ply), file_type="ply")
        assert len(cloud.vertices) == found["points"] > 5000
    service.engine.go = True
    result = service.wait_for_state(id, "succeeded")
    for early, late in zip(seen, result["pictures"], strict=False):
        np.testing.assert_allclose(early["extrinsic"], late["extrinsic"], atol=1e-5)
        np.testing.assert_allclose(early["intrinsic"], late["intrinsic"], rtol=1e-5)
    gone = service.client.get(told[0]["links"]["points"])
    assert problem(gone, 404, "not-found")


def test_running_out_of_memory_is_answered_with_smaller_chunks(serve: Serve) -> None:
    class Small(Engine):
        """A device that holds two frames at most."""

        def infer(self, batch: PreprocessedImages, *rest: Any) -> Pass:
            hook = self.net.register_forward_pre_hook(self._check)
            try:
                return super().infer(batch, *rest)
            finally:
                hook.remove()

        @staticmethod
        def _check(net: object, arguments: tuple[torch.Tensor, ...]) -> None:
            if len(arguments[0]) > 2:
                raise torch.OutOfMemoryError("out of memory")

    service = serve(Small, attention_keys=0)
    result = reconstruct(service, 5)
    assert result["run"]["degraded"] == ["chunked"]
    assert result["run"]["pass_frames"] == 2
    assert result["run"]["out_of_memory_recovered"] == 1
    assert service.metric('quantvggt_oom_total{recovered="true"}') == 1
    assert service.client.get("/readyz").status_code == 200


def test_over_the_memory_budget_the_resolution_is_reduced_and_the_result_says_so(
    serve: Serve,
) -> None:
    service = serve(Tight)
    dry = service.client.post(
        "/reconstruct", files=form(*pictures(1)), data={"dry_run": "true"}
    ).json()
    assert dry["degraded"] == ["reduced-resolution"]
    result = reconstruct(service, 1)
    assert result["run"]["degraded"] == ["reduced-resolution"]
    factor = result["run"]["resolution_factor"]
    assert factor < 1
    picture = result["pictures"][0]
    assert picture["network_size"]["width"] == round(96 * factor / 12) * 12
    assert picture["original_size"] == {"height": 90, "width": 120}
    depth = np.load(io.BytesIO(service.client.get(picture["depth"]["links"]["npy"]).content))
    assert depth.shape == (90, 120)
    assert np.isfinite(depth).all()


def test_ordered_outputs_are_there_before_anybody_asks(serve: Serve) -> None:
    service = serve()
    result = reconstruct(service, 2, outputs="scene.glb,trajectory.txt")
    exports = service.result_folder(result["id"]) / "exports"
    assert {
        path.name.rpartition("-")[2] for path in exports.iterdir() if path.suffix != ".sha256"
    } == {
        "scene.glb",
        "trajectory.txt",
    }


def test_a_known_distance_makes_the_answer_metric(serve: Serve) -> None:
    service = serve()
    distance = '{"a":{"picture":0,"x":20,"y":45},"b":{"picture":0,"x":100,"y":45},"metres":2}'
    result = reconstruct(service, 2, known_distance=distance)
    assert result["scale"]["unit"] == "metre"
    assert "metre" in result["world_frame"]
    picture = result["pictures"][0]
    depth = np.load(io.BytesIO(service.client.get(picture["depth"]["links"]["npy"]).content))
    ends = [depth[45, x] * np.linalg.inv(picture["intrinsic"]) @ [x, 45, 1] for x in (20, 100)]
    assert abs(np.linalg.norm(ends[0] - ends[1]) - 2) < 1e-3
