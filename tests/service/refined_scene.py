"""A stored refined reconstruction of a synthetic room: its true cameras, points and depth."""

from __future__ import annotations

import io
from datetime import datetime, timezone
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from model.preprocess import preprocess_images
from model.scene.distortion import distort, undistort
from model.scene.geometry import unproject_depth
from model.scene.reconstruction import Reconstruction
from refinement.result import (
    NETWORK,
    NO_DATA,
    VERIFIED,
    DenseMap,
    Reason,
    RefinedPicture,
    Refinement,
    SparsePoints,
)
from scenes.synthetic.generator import SyntheticScenes
from service.result.document import (
    CONVENTIONS,
    ModelDocument,
    ReconstructionDocument,
    ScaleDocument,
    describe_pictures,
    describe_refinement,
    world_frame,
)
from service.result.refined import refined
from service.result.scene import Scene, arrays_beside, maps_of

NAMES = ("one.jpg", "two.jpg", "three.jpg", "four.jpg")
HEIGHT, WIDTH = 120, 160
DISTORTION = 0.1  # of the second picture
FIT = (0.2, 1.1)


@pytest.fixture(scope="session")
def refinement(room: dict[str, Any]) -> Refinement:
    """Three pictures refined, the second one's lens with distortion; the fourth left as it was."""
    return room["refinement"]


@pytest.fixture(scope="session")
def network(room: dict[str, Any]) -> Reconstruction:
    """What a network that is a little wrong says of the room."""
    return room["network"]


@pytest.fixture(scope="session")
def refined_scene(room: dict[str, Any]) -> Scene:
    """The room as a refined result holds it."""
    return room["scene"]


@pytest.fixture(scope="session")
def room() -> dict[str, Any]:
    truth = SyntheticScenes("test", 1, num_views=4, height=HEIGHT, width=WIDTH)[0].normalised()
    extrinsics = truth.extrinsics.double().numpy()
    focal = float(truth.intrinsics[0, 0, 0])
    depth = truth.depth.numpy().copy()
    images = (truth.images.movedim(1, -1) * 255).round().to(torch.uint8).numpy()
    distortions = [0.0, DISTORTION, 0.0, 0.0]
    centre = np.array([WIDTH, HEIGHT]) / 2 + 0.5  # the generator counts pixel centres from 0
    row, column = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    places = undistort((np.stack([column, row], -1) - centre) / focal, DISTORTION) * focal + centre
    x, y = (places - 0.5).round().astype(int).reshape(-1, 2).T
    depth[1], images[1] = (each[1][y, x].reshape(each[1].shape) for each in (depth, images))

    sparse = _points(extrinsics, focal, centre, depth, images, distortions)
    counts = np.bincount(sparse.picture, minlength=4)
    pictures = tuple(
        RefinedPicture(
            source="network" if index == 3 else "refined",
            extrinsic=extrinsics[index],
            focal=focal,
            cx=float(centre[0]),
            cy=float(centre[1]),
            distortion=distortions[index],
            share=None if index == 3 else 0.95,
            observations=int(counts[index]),
            ray_angle=None if index == 3 else 12.0,
            depth_fit=None if index == 3 else FIT,
        )
        for index in range(4)
    )
    dense = []
    for index in range(4):
        source = np.full((HEIGHT, WIDTH), VERIFIED, np.uint8)
        source[:, : WIDTH // 4] = NETWORK
        if index == 3:
            source[:] = NETWORK
        source[:10] = NO_DATA
        dense.append(
            DenseMap(np.where(source == NO_DATA, np.nan, depth[index]).astype(np.float32), source)
        )
    refinement = Refinement(
        pictures=pictures,
        method="seeded",
        support=0.9,
        network_support=0.2,
        reason=Reason("too-few-matches", "Picture 3 shares too few matches with the others."),
        sparse=sparse,
        dense=tuple(dense),
    )
    network = _network(truth, images, depth)
    reconstruction = refined(network, refinement)
    document = ReconstructionDocument(
        id="1" * 32,
        created=datetime.now(timezone.utc),
        mode="fit",
        model=ModelDocument(
            name="m", artifact="a", weights_licence=None, device="cpu", kernels="reference"
        ),
        world_frame=world_frame(ScaleDocument()),
        conventions=CONVENTIONS,
        refinement=describe_refinement(refinement, "dense"),
        timings={},
        pictures=describe_pictures(reconstruction, NAMES, refinement),
    )
    keep = np.ones(tuple(network.mask.shape), bool)
    arrays = maps_of(reconstruction, keep)
    arrays |= arrays_beside(refinement, [_jpeg(image) for image in images])
    return {
        "refinement": refinement,
        "network": network,
        "images": images,
        "arrays": arrays,
        "scene": Scene.of(document, arrays),
    }


def _points(
    extrinsics: NDArray, focal: float, centre: NDArray, depth: NDArray, images: NDArray, ks: list
) -> SparsePoints:
    """Places of the first picture, and where the second and third see them."""
    rng = np.random.default_rng(0)
    y, x = rng.integers(5, HEIGHT - 5, 2000), rng.integers(5, WIDTH - 5, 2000)
    z = depth[0][y, x][:, None]
    xyz = np.concatenate([(np.stack([x, y], 1) + 0.5 - centre) / focal * z, z], 1)
    found: list[dict[int, NDArray]] = [{} for _ in xyz]
    for index in range(3):
        seen = xyz @ extrinsics[index, :, :3].T + extrinsics[index, :, 3]
        pixel = distort(seen[:, :2] / seen[:, 2:], ks[index]) * focal + centre
        inside = (pixel > 0).all(1) & (pixel < [WIDTH, HEIGHT]).all(1) & (seen[:, 2] > 0)
        for point in np.flatnonzero(inside):
            column, row = pixel[point].astype(int)
            if abs(depth[index][row, column] / seen[point, 2] - 1) < 0.02:
                found[point][index] = pixel[point]
    kept = [point for point, track in enumerate(found) if len(track) > 1]
    return SparsePoints(
        xyz=xyz[kept],
        rgb=images[0][y[kept], x[kept]],
        error=np.full(len(kept), 0.25),
        start=np.cumsum([0, *(len(found[point]) for point in kept)]),
        picture=np.array([index for point in kept for index in found[point]]),
        pixel=np.array([pixel for point in kept for pixel in found[point].values()]),
    )


def _network(truth: Any, images: NDArray, depth: NDArray) -> Reconstruction:
    batch = preprocess_images([Image.fromarray(image) for image in images], "fit", 64, 8)
    grid = tuple(batch.images.shape[2:])
    smaller = torch.nn.functional.interpolate(
        torch.from_numpy(depth)[:, None], size=grid, mode="nearest-exact"
    )[:, 0]
    wrong = ((smaller.log() - FIT[0]) / FIT[1]).exp()  # so that FIT makes it right
    wrong[3] = smaller[3]
    original = truth.intrinsics.clone()
    scales = [transform.scale for transform in batch.transforms]
    intrinsics = torch.stack(
        [
            torch.diag(torch.tensor([sx, sy, 1.0])) @ k
            for (sx, sy), k in zip(scales, original, strict=True)
        ]
    )
    return Reconstruction(
        extrinsics=truth.extrinsics,
        intrinsics=intrinsics,
        original_intrinsics=original,
        depth=wrong,
        depth_conf=1 + torch.rand(wrong.shape, generator=torch.Generator().manual_seed(0)),
        world_points=unproject_depth(wrong, truth.extrinsics, intrinsics),
        colors=(batch.images.movedim(1, -1) * 255).round().to(torch.uint8),
        mask=torch.stack([t.content_mask() for t in batch.transforms]),
        transforms=batch.transforms,
    )


def _jpeg(image: NDArray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=95)
    return file.getvalue()
