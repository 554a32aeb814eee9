from __future__ import annotations

import io
import os
import socket
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from service.inference.engine import Engine
from service.inference.network_pass import Pass
from tests.service.pictures import encode, form, make_picture
from tests.service.running import Gate, Running, Serve, problem, wait_until

EXIF_ORIENTATION = 0x0112


@pytest.fixture(scope="module")
def service(serve: Serve) -> Running:
    return serve(max_images=4, max_image_bytes=200_000, max_total_bytes=500_000, max_pixels=300_000)


@pytest.fixture(scope="module")
def sizes() -> list[tuple[int, int]]:
    return [(120, 90), (90, 120), (200, 100)]  # landscape, portrait and wide


@pytest.fixture(scope="module")
def result(service: Running, sizes: list[tuple[int, int]]) -> dict:
    pictures = [encode(make_picture(w, h, seed)) for seed, (w, h) in enumerate(sizes)]
    answer = service.client.post("/reconstruct", files=form(*pictures))
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_the_answer_has_cameras_on_both_grids(result: dict, sizes: list[tuple[int, int]]) -> None:
    assert [picture["filename"] for picture in result["pictures"]] == ["0.png", "1.png", "2.png"]
    for picture, (width, height) in zip(result["pictures"], sizes, strict=True):
        assert picture["original_size"] == {"height": height, "width": width}
        rotation = np.array(picture["extrinsic"])[:, :3]
        np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-5)
        original, network = np.array(picture["intrinsic"]), np.array(picture["intrinsic_network"])
        scale, offset = picture["transform"]["scale"], picture["transform"]["offset"]
        to_network = [[scale["x"], 0, offset["x"]], [0, scale["y"], offset["y"]], [0, 0, 1]]
        np.testing.assert_allclose(np.array(to_network) @ original, network, rtol=1e-4, atol=1e-3)
        assert 0 < picture["depth"]["min"] <= picture["depth"]["max"]


def test_the_answer_says_what_made_it(service: Running, result: dict) -> None:
    assert result["model"]["name"] == "tiny"
    assert result["model"]["weights_licence"] == "CC0-1.0"
    assert result["model"]["artifact"] == service.engine.digest
    assert "first picture" in result["world_frame"]
    assert "arbitrary" in result["world_frame"]
    stages = ["upload", "decode", "preprocess", "queue", "transfer", "aggregator", "heads", "post"]
    assert list(result["timings"]) == stages
    activations = result["model"]["activations"]
    assert activations["asked"] == "auto"
    assert result["model"]["precision"] == ("w4a8" if activations["wide"] else "w4a4, w4a8")


def test_server_timing_names_every_stage(service: Running) -> None:
    answer = service.client.post("/reconstruct", files=form(encode(make_picture(seed=77))))
    for stage in (
        "upload",
        "decode",
        "preprocess",
        "queue",
        "transfer",
        "aggregator",
        "heads",
        "post",
        "store",
    ):
        assert f"{stage};dur=" in answer.headers["server-timing"]


def test_the_self_link_gives_the_same_document(service: Running, result: dict) -> None:
    assert result["links"]["self"] == f"/reconstructions/{result['id']}"
    assert service.client.get(result["links"]["self"]).json() == result


@pytest.mark.parametrize(
    ("orientation", "stored"),
    [
        (6, Image.Transpose.ROTATE_90),
        (8, Image.Transpose.ROTATE_270),
        (3, Image.Transpose.ROTATE_180),
    ],
)
def test_exif_rotated_pictures_give_the_same_result_as_upright_ones(
    service: Running, orientation: int, stored: Image.Transpose
) -> None:
    upright = [make_picture(90, 120, seed) for seed in range(2)]
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    turned = [encode(picture.transpose(stored), exif=exif) for picture in upright]
    first = service.client.post("/reconstruct", files=form(*map(encode, upright))).json()[
        "pictures"
    ]
    second = service.client.post("/reconstruct", files=form(*turned)).json()["pictures"]
    for a, b in zip(first, second, strict=True):
        assert a["original_size"] == {"height": 120, "width": 90}
        assert {k: v for k, v in a.items() if k != "depth"} == {
            k: v for k, v in b.items() if k != "depth"
        }
        assert (a["depth"]["min"], a["depth"]["max"]) == (b["depth"]["min"], b["depth"]["max"])
        depths = [service.client.get(x["depth"]["links"]["npy"]).content for x in (a, b)]
        assert depths[0] == depths[1]


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "HEIF"])
def test_every_promised_format_is_read(service: Running, format: str) -> None:
    assert format in service.client.get("/capabilities").json()["input_formats"]
    assert (
        service.client.post("/reconstruct", files=form(encode(make_picture(), format))).status_code
        == 200
    )


@pytest.mark.parametrize("mode", ["RGBA", "L", "P", "CMYK", "I;16"])
def test_every_pixel_mode_is_read(service: Running, mode: str) -> None:
    picture = make_picture()
    picture = (
        Image.fromarray(np.array(picture.convert("L")).astype(np.uint16) * 257)
        if mode == "I;16"
        else picture.convert(mode)
    )
    data = encode(picture, "JPEG" if mode == "CMYK" else "PNG")
    assert service.client.post("/reconstruct", files=form(data)).status_code == 200


def test_the_field_may_be_called_files_and_the_mode_may_be_a_query_option(service: Running) -> None:
    files = form(encode(make_picture()), field="files")
    answer = service.client.post("/reconstruct", files=files, params={"mode": "pad"}).json()
    assert answer["mode"] == "pad"
    assert answer["pictures"][0]["network_size"] == {"height": 96, "width": 96}


def test_a_file_name_is_echoed_without_its_path_and_never_written(service: Running) -> None:
    name = "../../../etc/pass\x07wd.png"
    answer = service.client.post(
        "/reconstruct", files=[("images", (name, encode(make_picture()), "image/png"))]
    )
    assert answer.json()["pictures"][0]["filename"].startswith("pass")
    assert "/" not in answer.json()["pictures"][0]["filename"]
    folder = service.result_folder(answer.json()["id"])
    assert {path.name for path in folder.iterdir()} == {"result.json", "arrays.safetensors"}


def test_no_pictures_is_a_problem(service: Running) -> None:
    answer = service.client.post("/reconstruct", files=[("mode", (None, "fit"))])
    problem(answer, 422, "no-pictures")


@pytest.mark.parametrize("data", [b"hello, I am no picture", b"GIF89a" + bytes(100), b"%PDF-1.7"])
def test_what_is_no_picture_is_a_problem_that_names_the_file(service: Running, data: bytes) -> None:
    document = problem(
        service.client.post("/reconstruct", files=form(encode(make_picture()), data)),
        415,
        "unsupported-picture",
    )
    assert document["index"] == 1
    assert document["filename"] == "1.png"
    assert document["formats"] == ["JPEG", "PNG", "WEBP", "AVIF", "HEIF"]


@pytest.mark.parametrize("keep", [0, 10, 60, 3000])
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_a_truncated_picture_is_a_problem(service: Running, format: str, keep: int) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    data = encode(Image.fromarray(noise), format)[:keep]
    answer = service.client.post("/reconstruct", files=form(data))
    # no magic number yet
    slug = "unsupported-picture" if (format, keep) == ("WEBP", 10) else "broken-picture"
    problem(answer, 415 if slug == "unsupported-picture" else 422, slug)


def test_an_absurdly_thin_picture_is_a_problem(service: Running) -> None:
    problem(
        service.client.post("/reconstruct", files=form(encode(make_picture(4000, 3)))),
        422,
        "broken-picture",
    )


def test_too_many_pictures_are_a_problem(service: Running) -> None:
    for count in (5, 20, 60):
        answer = service.client.post(
            "/reconstruct", files=form(*[encode(make_picture(), "JPEG")] * count)
        )
        assert problem(answer, 413, "too-many-pictures")["max_images"] == 4


def test_a_picture_of_too_many_bytes_is_a_problem(service: Running) -> None:
    answer = service.client.post("/reconstruct", files=form(bytes(200_001)))
    assert problem(answer, 413, "too-many-bytes")["max_image_bytes"] == 200_000


def test_a_body_of_too_many_bytes_is_refused_by_its_stated_length(service: Running) -> None:
    answer = service.client.post("/reconstruct", files=form(*[bytes(190_000)] * 3))
    assert problem(answer, 413, "too-many-bytes")["max_total_bytes"] == 500_000


def test_a_body_of_unstated_length_is_counted_as_it_arrives(service: Running) -> None:
    sent = httpx.Request("POST", "http://x", files=form(*[bytes(190_000)] * 3))
    chunks = iter([sent.read()[i : i + 65536] for i in range(0, 570_000, 65536)])
    headers = {"Content-Type": sent.headers["content-type"]}  # no Content-Length: chunked
    answer = service.client.post("/reconstruct", content=chunks, headers=headers)
    assert problem(answer, 413, "too-many-bytes")["max_total_bytes"] == 500_000


def test_too_many_pixels_are_a_problem_found_before_decoding(service: Running) -> None:
    whole = encode(make_picture(1000, 400))
    # can't be decoded
    answer = service.client.post("/reconstruct", files=form(whole[: len(whole) // 2]))
    document = problem(answer, 413, "too-many-pixels")
    assert document["max_pixels"] == 300_000
    assert document["filename"] == "0.png"


def test_a_decompression_bomb_is_a_problem(service: Running) -> None:
    # A PNG header that promises 30000 x 30000 pixels.
    header = struct.pack(">IIBBBBB", 30000, 30000, 8, 2, 0, 0, 0)
    chunk = (
        struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    )
    chunk += struct.pack(">I", 1000) + b"IDAT"
    problem(
        service.client.post("/reconstruct", files=form(b"\x89PNG\r\n\x1a\n" + chunk)),
        413,
        "too-many-pixels",
    )


def test_many_large_pictures_are_a_problem_together(serve: Serve) -> None:
    small = serve(max_total_pixels=20_000)
    assert small.client.post("/reconstruct", files=form(encode(make_picture()))).status_code == 200
    answer = small.client.post("/reconstruct", files=form(*[encode(make_picture())] * 2))
    assert problem(answer, 413, "too-many-pixels")["max_total_pixels"] == 20_000


@pytest.mark.parametrize(
    "content_type", ["application/json", "image/png", "application/x-www-form-urlencoded", ""]
)
def test_another_content_type_is_a_problem(service: Running, content_type: str) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    answer = service.client.post(
        "/reconstruct", content=b'{"images": ["/etc/passwd"]}', headers=headers
    )
    problem(answer, 415, "unsupported-body")


@pytest.mark.parametrize(
    ("boundary", "body"),
    [
        pytest.param("", b"", id="no boundary"),
        pytest.param("; boundary=x", b"", id="nothing at all"),
        pytest.param("; boundary=x", b"no multipart here", id="no delimiter"),
        pytest.param(
            "; boundary=x",
            b"--x\r\nContent-Disposition: form-data\r\n\r\n1\r\n--x--\r\n",
            id="no name",
        ),
        pytest.param(
            "; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="images"; filename="a"\r\n\r\nabc',
            id="no end",
        ),
    ],
)
def test_a_malformed_body_is_a_problem(service: Running, boundary: str, body: bytes) -> None:
    headers = {"Content-Type": f"multipart/form-data{boundary}"}
    problem(
        service.client.post("/reconstruct", content=body, headers=headers), 400, "malformed-body"
    )


def test_an_unknown_form_field_is_a_problem(service: Running) -> None:
    files = form(encode(make_picture()))
    assert (
        "modus"
        in problem(
            service.client.post("/reconstruct", files=files, data={"modus": "fit"}),
            422,
            "invalid-option",
        )["detail"]
    )
    problem(
        service.client.post("/reconstruct", data={"x": "1"}, files=form(b"", field="pictures")),
        422,
        "invalid-option",
    )


def test_an_unknown_mode_is_a_problem(service: Running) -> None:
    files = form(encode(make_picture()))
    problem(
        service.client.post("/reconstruct", files=files, data={"mode": "stretch"}),
        422,
        "invalid-option",
    )
    problem(
        service.client.post("/reconstruct", files=files, params={"mode": "stretch"}),
        422,
        "invalid-option",
    )


def test_non_finite_output_is_a_problem_in_plain_words(serve: Serve) -> None:
    class Broken(Engine):
        def load(self) -> None:
            super().load()
            self.net.camera_head.pose_branch.fc2.bias.data.fill_(float("nan"))

    service = serve(Broken)
    answer = service.client.post("/reconstruct", files=form(encode(make_picture())))
    assert "not finite" in problem(answer, 500, "non-finite-output")["detail"]
    assert service.client.get("/readyz").status_code == 200


def test_a_full_device_is_a_problem_and_the_service_goes_on(serve: Serve) -> None:
    class Full(Engine):
        def load(self) -> None:
            super().load()
            self.net.register_forward_pre_hook(self._refuse_pairs)

        @staticmethod
        def _refuse_pairs(net: object, arguments: tuple[torch.Tensor, ...]) -> None:
            if len(arguments[0]) > 1:
                raise torch.OutOfMemoryError("out of memory")

    service = serve(Full)
    picture = encode(make_picture())
    answer = service.client.post("/reconstruct", files=form(picture, picture))
    assert problem(answer, 503, "out-of-memory")["pictures"] == 2
    assert answer.headers["retry-after"]
    assert service.metric('quantvggt_oom_total{recovered="false"}') == 1
    assert service.client.post("/reconstruct", files=form(picture)).status_code == 200


def test_an_unexpected_error_is_a_problem_without_a_traceback(serve: Serve) -> None:
    class Surprised(Engine):
        def infer(self, *arguments: Any) -> Pass:
            raise KeyError("secret")

    service = serve(Surprised)
    answer = service.client.post("/reconstruct", files=form(encode(make_picture())))
    problem(answer, 500, "internal-error")
    assert "secret" not in answer.text
    assert service.metric('quantvggt_requests_total{outcome="internal-error"}') == 1


def test_a_refused_client_reads_the_answer_though_it_has_not_finished_sending(serve: Serve) -> None:
    service = serve(max_total_bytes=1_000_000)
    head = (
        b"POST /reconstruct HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
        b"Content-Length: 20000000\r\n"
        b"Content-Type: multipart/form-data; boundary=x\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", service.port)) as connection:
        connection.sendall(head)
        for _ in range(20):
            connection.sendall(bytes(1_000_000))
        connection.settimeout(30)
        assert connection.recv(100).startswith(b"HTTP/1.1 413 ")


def test_requests_run_one_after_the_other_and_a_full_queue_refuses(serve: Serve) -> None:
    service = serve(Gate, queue_limit=1)

    def post(seed: int) -> httpx.Response:
        return service.client.post("/reconstruct", files=form(encode(make_picture(seed=seed))))

    with ThreadPoolExecutor() as pool:
        admitted = [pool.submit(post, seed) for seed in range(2)]
        wait_until(lambda: service.metric("quantvggt_queue_depth") == 2)
        refused = post(2)
        assert problem(refused, 429, "queue-full")["queue_capacity"] == 2
        assert int(refused.headers["retry-after"]) > 0
        service.engine.opened.set()
        assert [answer.result().status_code for answer in admitted] == [200, 200]
    assert (service.engine.calls, service.engine.most_at_once) == (2, 1)
    assert service.metric("quantvggt_queue_depth") == 0
    assert service.metric('quantvggt_rejected_total{reason="queue-full"}') == 1
    assert service.metric('quantvggt_requests_total{outcome="queue-full"}') == 1


def _send_and_leave(service: Running, whole: bool, **headers: str) -> None:
    request = service.client.build_request(
        "POST", "/reconstruct", files=form(encode(make_picture())), headers=headers
    )
    body = request.read()
    head = "".join(f"{key}: {value}\r\n" for key, value in request.headers.items())
    with socket.create_connection(("127.0.0.1", service.port)) as connection:
        connection.sendall(
            f"POST /reconstruct HTTP/1.1\r\n{head}\r\n".encode() + (body if whole else body[:500])
        )
        if whole:
            wait_until(lambda: len(service.application.store.waiting()) == 2)


def test_a_client_that_leaves_during_its_upload_leaves_nothing_behind(serve: Serve) -> None:
    service = serve()
    _send_and_leave(service, whole=False)
    wait_until(lambda: service.metric('quantvggt_requests_total{outcome="disconnected"}') == 1)
    assert service.metric("quantvggt_queue_depth") == 0
    assert list((service.data_dir / "incoming").iterdir()) == []
    assert service.client.get("/reconstructions").json()["reconstructions"] == []


def test_a_client_that_leaves_the_queue_is_never_run(serve: Serve) -> None:
    service = serve(Gate)
    with ThreadPoolExecutor() as pool:
        running = pool.submit(
            service.client.post, "/reconstruct", files=form(encode(make_picture()))
        )
        assert service.engine.entered.wait(30)
        _send_and_leave(service, whole=True)
        wait_until(lambda: service.metric('quantvggt_requests_total{outcome="disconnected"}') == 1)
        assert service.metric("quantvggt_queue_depth") == 1
        service.engine.opened.set()
        assert running.result().status_code == 200
    assert service.engine.calls == 1
    assert service.metric('quantvggt_cancelled_total{phase="queued"}') == 1
    assert len(list((service.data_dir / "results").iterdir())) == 1


def test_the_job_of_a_client_that_leaves_and_sends_its_idempotency_key_again_goes_on(
    serve: Serve,
) -> None:
    service = serve(Gate)
    key = {"Idempotency-Key": "kitchen"}
    with ThreadPoolExecutor() as pool:
        running = pool.submit(
            service.client.post, "/reconstruct", files=form(encode(make_picture(seed=1)))
        )
        assert service.engine.entered.wait(30)
        _send_and_leave(service, whole=True, **key)
        wait_until(lambda: service.metric('quantvggt_requests_total{outcome="disconnected"}') == 1)
        service.engine.opened.set()
        assert running.result().status_code == 200
    again = service.client.post("/reconstruct", files=form(encode(make_picture())), headers=key)
    assert again.status_code == 200, again.text
    assert service.engine.calls == 2


def test_an_upload_that_trickles_is_cut_off(serve: Serve) -> None:
    service = serve(upload_timeout=0.2)
    with socket.create_connection(("127.0.0.1", service.port)) as connection:
        connection.sendall(
            b"POST /reconstruct HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n"
            b"Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n"
        )
        connection.settimeout(30)
        assert connection.recv(100).startswith(b"HTTP/1.1 408 ")


@pytest.mark.skipif(
    "TEST_PHOTOS" not in os.environ, reason="TEST_PHOTOS names no folder with fox/*.jpg"
)
def test_real_portrait_photographs_keep_their_grid(serve: Serve) -> None:
    photos = sorted(Path(os.environ["TEST_PHOTOS"], "fox").glob("*.jpg"))[:4]
    assert photos, "TEST_PHOTOS is set, but holds no fox/*.jpg"
    service = serve()
    upright = [path.read_bytes() for path in photos]
    answer = service.client.post("/reconstruct", files=form(*upright))
    assert answer.status_code == 200, answer.text
    assert np.isfinite([picture["extrinsic"] for picture in answer.json()["pictures"]]).all()
    assert len(
        trimesh.load(
            io.BytesIO(service.client.get(answer.json()["links"]["points"]).content),
            file_type="ply",
        ).vertices
    )
    for picture in answer.json()["pictures"]:
        depth = np.load(io.BytesIO(service.client.get(picture["depth"]["links"]["npy"]).content))
        assert depth.shape == (960, 540)
        assert np.isfinite(depth).all()

    exif = Image.Exif()
    # the camera lay on its side: the file holds the scene turned by 90 degrees
    exif[EXIF_ORIENTATION] = 6
    turned = []
    for path in photos:
        with Image.open(path) as photo:
            turned.append(encode(photo.transpose(Image.Transpose.ROTATE_90), exif=exif))
    again = service.client.post("/reconstruct", files=form(*turned))
    assert again.status_code == 200, again.text
    for picture, same in zip(answer.json()["pictures"], again.json()["pictures"], strict=True):
        assert same["original_size"] == {"height": 960, "width": 540}
        np.testing.assert_allclose(same["extrinsic"], picture["extrinsic"], atol=1e-5)
        np.testing.assert_allclose(same["intrinsic"], picture["intrinsic"], rtol=1e-5)


def test_a_full_disk_is_a_problem_until_there_is_room_again(serve: Serve) -> None:
    service = serve()
    picture = form(encode(make_picture()))
    service.application.storage.min_free_bytes = 2**60
    answer = service.client.post("/reconstruct", files=picture)
    problem(answer, 507, "storage-full")
    assert int(answer.headers["retry-after"]) > 0
    service.application.storage.min_free_bytes = 0
    assert service.client.post("/reconstruct", files=picture).status_code == 200


def test_a_dry_run_predicts_and_leaves_nothing(service: Running) -> None:
    before = len(service.client.get("/reconstructions").json()["reconstructions"])
    answer = service.client.post(
        "/reconstruct", files=form(*[encode(make_picture(), "JPEG")] * 3), data={"dry_run": "true"}
    ).json()
    assert answer["dry_run"] is True
    assert (answer["frames"], answer["passes"]) == (3, 1)
    assert answer["network_size"] == {"height": 72, "width": 96}
    assert answer["predicted_memory_bytes"] > 0
    assert answer["predicted_seconds"] > 0
    assert len(service.client.get("/reconstructions").json()["reconstructions"]) == before


def test_query_points_of_a_model_without_a_tracker_are_refused_before_any_work(
    service: Running,
) -> None:
    files = form(encode(make_picture()))
    document = problem(
        service.client.post("/reconstruct", files=files, data={"query_points": "[[1, 2]]"}),
        422,
        "no-tracks",
    )
    assert "track" not in document["heads"]


def test_what_is_predicted_to_take_longer_than_a_job_may_is_refused(serve: Serve) -> None:
    service = serve(job_timeout=1e-4)
    files = form(encode(make_picture()))
    found = problem(service.client.post("/reconstruct", files=files), 413, "too-much-time")
    assert found["predicted_seconds"] > found["job_timeout"]
    assert list((service.data_dir / "incoming").iterdir()) == []
    dry = service.client.post("/reconstruct", files=files, data={"dry_run": "true"})
    assert dry.json()["predicted_seconds"] == pytest.approx(found["predicted_seconds"], rel=0.5)
