from __future__ import annotations

import io

import numpy as np
import pytest
import trimesh
from PIL import Image

from tests.service.pictures import encode, form, make_picture
from tests.service.running import Running, Serve, problem

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


def test_the_ply_opens_in_trimesh_with_coloured_points_in_front_of_the_cameras(
    service: Running, result: dict
) -> None:
    ply = service.client.get(result["links"]["points"], params={"confidence": 0}).content
    assert ply.startswith(b"ply\nformat binary_little_endian 1.0")
    cloud = trimesh.load(io.BytesIO(ply), file_type="ply")
    # 96x72, 72x96 and 96x48 pixels of content on the network's grid; padding is no point
    assert len(cloud.vertices) == 96 * 72 + 72 * 96 + 96 * 48
    assert cloud.visual.vertex_colors.shape == (len(cloud.vertices), 4)
    assert len(np.unique(cloud.visual.vertex_colors[:, :3], axis=0)) > 1000
    first = np.array(result["pictures"][0]["extrinsic"])
    depth = (cloud.vertices[: 96 * 72] @ first[:, :3].T + first[:, 3])[:, 2]
    np.testing.assert_allclose(depth.min(), result["pictures"][0]["depth"]["min"], rtol=1e-3)


def test_the_ply_leaves_out_the_least_confident_quarter_unless_told_otherwise(
    service: Running, result: dict
) -> None:
    def count(**options: float) -> int:
        ply = service.client.get(result["links"]["points"], params=options).content
        return len(trimesh.load(io.BytesIO(ply), file_type="ply").vertices)

    everything = count(confidence=0)
    assert count() == pytest.approx(0.75 * everything, rel=0.01)
    assert count(confidence=90) == pytest.approx(0.1 * everything, rel=0.01)
    assert count(max_points=1000) == 1000


@pytest.mark.parametrize("grid", ["original", "network"])
def test_depth_png_times_scale_is_depth_npy_within_a_step(
    service: Running, result: dict, sizes: list[tuple[int, int]], grid: str
) -> None:
    for picture, (width, height) in zip(result["pictures"], sizes, strict=True):
        links, scale = picture["depth"]["links"], picture["depth"]["png_scale"]
        png = service.client.get(links["png"], params={"grid": grid})
        npy = service.client.get(links["npy"], params={"grid": grid})
        values = np.array(Image.open(io.BytesIO(png.content)))
        depth = np.load(io.BytesIO(npy.content))
        network = (picture["network_size"]["height"], picture["network_size"]["width"])
        assert values.dtype == np.uint16
        assert depth.dtype == np.float32
        assert values.shape == depth.shape == ((height, width) if grid == "original" else network)
        assert float(png.headers["x-depth-scale"]) == scale
        np.testing.assert_array_equal(values == 0, np.isnan(depth))
        seen = values > 0
        assert np.abs(values[seen] * scale - depth[seen]).max() <= scale
        # "fit" cuts nothing off; mixed sizes are padded
        assert np.isnan(depth).any() == (grid == "network")


def test_what_crop_cuts_off_is_no_data(service: Running) -> None:
    data = {"mode": "crop"}
    answer = service.client.post(
        "/reconstruct", files=form(encode(make_picture(60, 120))), data=data
    ).json()
    assert answer["mode"] == "crop"
    depth = np.load(
        io.BytesIO(service.client.get(answer["pictures"][0]["depth"]["links"]["npy"]).content)
    )
    assert depth.shape == (120, 60)
    assert np.isnan(depth[:29]).all()
    assert np.isnan(depth[-29:]).all()
    assert np.isfinite(depth[30:90]).all()


def test_the_preview_is_a_colour_picture_on_the_original_grid(
    service: Running, result: dict, sizes: list[tuple[int, int]]
) -> None:
    for picture, size in zip(result["pictures"], sizes, strict=True):
        answer = service.client.get(picture["depth"]["links"]["preview"])
        preview = Image.open(io.BytesIO(answer.content))
        assert (preview.mode, preview.size, answer.headers["content-type"]) == (
            "RGB",
            size,
            "image/png",
        )


@pytest.mark.parametrize("index", ["3", "-1", "99999999999999999999"])
def test_a_picture_that_does_not_exist_is_not_found(
    service: Running, result: dict, index: str
) -> None:
    for path in (f"depth/{index}.png", f"depth/{index}.npy", f"depth/{index}/preview.png"):
        problem(service.client.get(f"/reconstructions/{result['id']}/{path}"), 404, "not-found")


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("points.ply", "confidence=101"),
        ("points.ply", "confidence=-1"),
        ("points.ply", "confidence=nan"),
        ("points.ply", "confidence=high"),
        ("points.ply", "max_points=0"),
        ("depth/0.png", "grid=other"),
        ("depth/0.npy", "grid="),
        ("depth/x.png", ""),
    ],
)
def test_a_bad_option_is_a_problem(service: Running, result: dict, path: str, query: str) -> None:
    problem(
        service.client.get(f"/reconstructions/{result['id']}/{path}?{query}"), 422, "invalid-option"
    )
