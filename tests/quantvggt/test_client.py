from __future__ import annotations

import asyncio
import json
import mimetypes
import re
import zipfile
from collections.abc import Iterable
from pathlib import Path

import httpx
import numpy as np
import pytest
import trimesh
import trustme
from numpy.testing import assert_array_equal

from quantvggt import AsyncClient, BadInputError, Client, Result, ServiceError
from quantvggt.conversation import Exchange, Step, ignore
from quantvggt.files import chosen
from service.result.document import ReconstructionDocument
from tests.service.inputs.remote.origin import Origin, plain
from tests.service.pictures import encode, make_picture
from tests.service.running import Running, Serve

DEFAULT = {
    "result.json", "points.ply", "cameras.json",
    "pictures/0.png", "depth/0.png", "depth/0.npy", "pictures/1.png", "depth/1.png", "depth/1.npy",
}  # fmt: skip


@pytest.fixture(scope="module")
def service(serve: Serve) -> Running:
    return serve(max_images=2)


@pytest.fixture
def client(service: Running) -> Client:
    client = Client(f"http://127.0.0.1:{service.port}")
    client.wait_until_ready(30)
    return client


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """Two pictures, the second one portrait."""
    paths = [tmp_path / 'with "quotes" and ü.png', tmp_path / "b.png"]
    paths[0].write_bytes(encode(make_picture(120, 90, 0)))
    paths[1].write_bytes(encode(make_picture(90, 120, 1)))
    return paths


def files_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_result_is_points_colors_depth_and_cameras_as_arrays(
    client: Client, service: Running, pictures: list[Path], tmp_path: Path
) -> None:
    result = client.reconstruct(pictures, mode="pad", confidence=0)
    assert result.document["options"] == {"mode": "pad", "confidence": 0.0}
    assert [depth.shape for depth in result.depth] == [(90, 120), (120, 90)]
    assert [depth.shape for depth in result.depth[1:]] == [(120, 90)]
    first, second = result.cameras
    assert (first.filename, first.width, first.height) == ("with %22quotes%22 and ü.png", 120, 90)
    served = service.client.get(f"/reconstructions/{result.id}").json()["pictures"][1]
    assert_array_equal(second.extrinsic, served["extrinsic"])
    assert_array_equal(second.intrinsic, served["intrinsic"])
    cloud = trimesh.load(result.folder / "points.ply")
    assert_array_equal(result.points, np.asarray(cloud.vertices, np.float32))
    assert_array_equal(result.colors, np.asarray(cloud.visual.vertex_colors)[:, :3])
    assert result.confidence.shape == (len(result.points),)
    assert result.confidence.min() >= 1

    result.save(tmp_path / "out")
    assert files_in(tmp_path / "out") == DEFAULT
    again = Result(tmp_path / "out")
    assert again.document == result.document
    assert_array_equal(again.points, result.points)
    with pytest.raises(BadInputError, match="holds a result already"):
        result.save(tmp_path / "out")
    result.save(tmp_path / "out", overwrite=True)


def test_what_a_result_has_on_disk_goes_with_it_but_not_before_its_maps(
    client: Client, pictures: list[Path]
) -> None:
    result = client.reconstruct(pictures)
    folder, depth = result.folder, result.depth
    del result
    assert depth[0].shape == (90, 120)
    del depth
    assert not folder.exists()


def test_the_async_client_gives_the_same(
    client: Client, pictures: list[Path], tmp_path: Path
) -> None:
    stages: list[str] = []

    async def both() -> list[Result]:
        there = AsyncClient(client.server)
        await there.wait_until_ready(30)
        one, other = await asyncio.gather(
            there.reconstruct(pictures, progress=lambda stage, share: stages.append(stage)),
            there.reconstruct(pictures[1:]),
        )
        id = await there.submit(pictures[:1])
        await there.follow(id)
        await there.download(id, tmp_path / "out", ["cameras.json"])
        assert (await there.document(id))["id"] == id
        return [one, other]

    one, other = asyncio.run(both())
    assert len(other.cameras) == 1
    assert {"upload", "export", "download"} <= set(stages)
    assert_array_equal(one.points, client.reconstruct(pictures).points)
    assert files_in(tmp_path / "out") == {"result.json", "cameras.json"}


def test_a_folder_holds_the_documents_files_and_links_to_no_other(
    client: Client, pictures: list[Path], tmp_path: Path
) -> None:
    id = client.submit(pictures)
    client.follow(id)
    document = client.download(id, tmp_path / "all", ["*"])
    links = [document["links"], *(p["links"] for p in document["pictures"])]
    links += [picture["depth"]["links"] for picture in document["pictures"]]
    assert {link for some in links for link in some.values()} == files_in(tmp_path / "all")
    assert json.loads((tmp_path / "all" / "result.json").read_text()) == document

    document = client.download(id, tmp_path / "some", ["scene.glb", "depth/*.exr"])
    assert files_in(tmp_path / "some") == {"result.json", "scene.glb", "depth/0.exr", "depth/1.exr"}
    assert document["links"] == {"self": "result.json", "scene_glb": "scene.glb"}
    assert document["pictures"][1]["depth"]["links"] == {"exr": "depth/1.exr"}

    client.download(id, tmp_path / "archive", ["everything.zip"])
    with zipfile.ZipFile(tmp_path / "archive" / "everything.zip") as archive:
        ReconstructionDocument.model_validate_json(archive.read("result.json"))
        assert set(archive.namelist()) == files_in(tmp_path / "all")


def test_an_output_that_no_result_has_is_refused_before_anything_is_sent(
    pictures: list[Path],
) -> None:
    with pytest.raises(BadInputError, match=r"scene\.obj: no result has such a file"):
        Client("http://127.0.0.1:9").reconstruct(pictures, outputs=["scene.obj"])


def test_an_output_that_this_result_lacks_is_named(
    client: Client, pictures: list[Path], tmp_path: Path
) -> None:
    id = client.submit(pictures)
    client.follow(id)
    with pytest.raises(BadInputError, match=r"no file depth/7\.npy, tracks\.json"):
        client.download(id, tmp_path / "out", ["points.ply", "depth/7.npy", "tracks.json"])
    assert files_in(tmp_path / "out") == {"result.json", "points.ply"}


def test_a_file_name_that_leads_out_of_the_folder_is_refused() -> None:
    document = {
        "id": "1",
        "links": {"self": "x", "points": "/reconstructions/1/../../etc/passwd"},
        "pictures": [],
    }
    with pytest.raises(BadInputError, match="leads out"):
        chosen(document, ["*"])


def test_progress_rises_in_every_stage_and_the_same_key_gives_the_same_reconstruction(
    client: Client, tmp_path: Path
) -> None:
    (tmp_path / "a.png").write_bytes(encode(make_picture(seed=5)))
    seen: dict[str, list[float]] = {}

    def note(stage: str, share: float) -> None:
        seen.setdefault(stage, []).append(share)

    ids = set()
    for _ in range(2):
        id = client.submit([tmp_path / "a.png"], key="the same key", progress=note)
        client.follow(id, note)
        client.download(id, tmp_path / "out", progress=note)
        ids.add(id)
    assert len(ids) == 1
    assert {"upload", "reconstruct", "export", "download"} <= set(seen)
    assert max(seen["upload"]) == max(seen["export"]) == max(seen["download"]) == 1
    half = len(seen["download"]) // 2
    assert seen["download"][:half] == sorted(seen["download"][:half])


def test_a_prediction_makes_no_reconstruction_and_a_dry_run_is_none(
    service: Running, client: Client, pictures: list[Path]
) -> None:
    before = service.client.get("/reconstructions").json()
    plan = client.predict(pictures, {"mode": "pad"})
    assert (plan["frames"], plan["network_size"]) == (2, {"height": 96, "width": 96})
    with pytest.raises(BadInputError, match="predict"):
        client.submit(pictures, {"dry_run": True})
    assert service.client.get("/reconstructions").json() == before


def test_a_url_is_left_to_the_service_to_fetch(
    serve: Serve, certificates: trustme.CA, tmp_path: Path
) -> None:
    (tmp_path / "a.png").write_bytes(encode(make_picture()))
    origin = Origin(certificates, answers={"/b.png": plain(encode(make_picture(seed=1)))})
    fetching = serve(fetch_urls=True, fetch_hosts=origin.url(""))
    result = Client(f"http://127.0.0.1:{fetching.port}").reconstruct(
        [origin.url("/b.png"), tmp_path / "a.png"]
    )
    origin.stop()
    assert [camera.filename for camera in result.cameras] == ["b.png", "a.png"]


def test_the_services_own_words_are_passed_on(client: Client, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("no picture")
    with pytest.raises(
        ServiceError, match=r"a\.txt is not a JPEG, PNG, WebP, HEIC or AVIF picture"
    ) as caught:
        client.reconstruct([tmp_path / "a.txt"])
    assert caught.value.blames_input
    with pytest.raises(ServiceError, match="text field 'modus'"):
        client.reconstruct([tmp_path / "a.txt"], modus="pad")
    with pytest.raises(ServiceError, match="There is no reconstruction of this id") as caught:
        client.document("0" * 32)
    assert caught.value.status == 404
    assert not caught.value.blames_input


def test_a_server_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match=r"127\.0\.0\.1:9 can't be reached"):
        Client("http://127.0.0.1:9").wait_until_ready(0)
    with pytest.raises(ServiceError, match=r"127\.0\.0\.1:9 can't be reached"):
        asyncio.run(AsyncClient("http://127.0.0.1:9").document("0"))


@pytest.mark.parametrize(
    "server", ["", "127.0.0.1:8000", "ftp://x", "file:///etc/passwd", "http://"]
)
def test_an_address_that_is_none_is_refused(server: str) -> None:
    with pytest.raises(BadInputError, match="not an address"):
        Client(server)


def test_following_outlives_a_service_that_is_started_again() -> None:
    following = Client("http://127.0.0.1:9")._following("0", lambda stage, share: None)
    away = ServiceError("It can't be reached.")
    asked: list[str] = []

    def exchange(step: Step) -> None:
        assert isinstance(step, Exchange)
        asked.append(step.request.url.path)

    exchange(next(following))
    assert following.throw(away) == 0.5  # seconds before the next attempt
    exchange(next(following))
    exchange(following.send(httpx.Response(204)))
    assert following.throw(away) == 0.5
    exchange(next(following))
    exchange(following.send(httpx.Response(204)))
    with pytest.raises(StopIteration):
        following.send(httpx.Response(200, json={"state": "succeeded"}))
    events, state = "/reconstructions/0/events", "/reconstructions/0"
    assert asked == [events, events, state, events, state]


def test_a_video_of_a_type_that_the_system_does_not_know_is_sent_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mimetypes, "guess_type", lambda name: (None, None))
    for name in ("walk.mkv", "walk.MP4", "a.png"):
        (tmp_path / name).write_bytes(b"content")
    sending = Client("http://127.0.0.1:9")._submitting(
        [tmp_path / "walk.mkv", tmp_path / "walk.MP4", tmp_path / "a.png"], {}, None, ignore
    )
    step = next(sending)
    assert isinstance(step, Exchange)
    assert isinstance(step.request.stream, Iterable)
    form = b"".join(step.request.stream)
    assert re.findall(rb'name="(\w+)"; filename="([\w.]+)"', form) == [
        (b"video", b"walk.mkv"), (b"video", b"walk.MP4"), (b"images", b"a.png"),
    ]  # fmt: skip


def test_a_batch_is_started_sent_followed_and_begun_anew(
    client: Client, pictures: list[Path], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    id = client.start_batch([{"name": "fine"}, {"name": "broken"}], {"mode": "pad"})["id"]
    client.send_scene(id, 0, pictures)
    with pytest.raises(ServiceError, match=r"broken\.png"):
        client.send_scene(id, 1, broken)

    async def states() -> list[str]:
        there = AsyncClient(client.server)
        while (batch := await there.batch(id))["counts"].get("succeeded") != 1:
            await asyncio.sleep(0.05)
        return [scene["state"] for scene in batch["scenes"]]

    assert asyncio.run(states()) == ["succeeded", "expected"]
    assert [scene["state"] for scene in client.retry_batch(id)["scenes"]] == [
        "succeeded", "expected",
    ]  # fmt: skip
