"""A stored reconstruction of two pictures, for tests of results, storage and exports."""

from __future__ import annotations

from datetime import datetime, timezone

import numpy as np
import pytest
import torch

from model.families.vggt.cameras import pose_encoding_to_cameras
from model.preprocess import preprocess_images
from model.scene.geometry import unproject_depth
from model.scene.reconstruction import Reconstruction
from service.result.document import (
    CONVENTIONS,
    ModelDocument,
    ReconstructionDocument,
    ScaleDocument,
    describe_pictures,
    world_frame,
)
from service.result.scene import TRACKS, Scene, maps_of
from tests.service.pictures import make_picture


@pytest.fixture(scope="session")
def scene() -> Scene:
    """A landscape and a portrait picture, so that both are padded, with smooth depth and cameras
    apart."""
    batch = preprocess_images([make_picture(120, 90), make_picture(90, 120, 1)], "fit", 96, 12)
    encoding = torch.tensor(
        [[0.0, 0, 0, 0, 0, 0, 1, 0.9, 1.0], [-0.5, 0.1, 0.2, 0.05, 0.1, -0.02, 1, 0.9, 1.0]]
    )
    extrinsics, intrinsics = pose_encoding_to_cameras(encoding, (96, 96))
    ramp = torch.linspace(0, 1, 96)
    depth = (
        2
        + ramp[None, :, None]
        + 0.5 * ramp[None, None, :]
        + torch.tensor([0.0, 0.3])[:, None, None]
    )
    reconstruction = Reconstruction(
        extrinsics=extrinsics,
        intrinsics=intrinsics,
        original_intrinsics=torch.stack(
            [t.intrinsics_to_original(k) for t, k in zip(batch.transforms, intrinsics, strict=True)]
        ),
        depth=depth,
        depth_conf=1 + torch.rand(2, 96, 96, generator=torch.Generator().manual_seed(0)),
        world_points=unproject_depth(depth, extrinsics, intrinsics),
        colors=(batch.images.movedim(1, -1) * 255).round().to(torch.uint8),
        mask=torch.stack([t.content_mask() for t in batch.transforms]),
        transforms=batch.transforms,
    )
    document = ReconstructionDocument(
        id="0" * 32,
        created=datetime.now(timezone.utc),
        mode="fit",
        model=ModelDocument(
            name="m", artifact="a", weights_licence=None, device="cpu", kernels="reference"
        ),
        world_frame=world_frame(ScaleDocument()),
        conventions=CONVENTIONS,
        timings={},
        pictures=describe_pictures(reconstruction, ("a b.png", "b.png")),
        options={"query_points": "[[47.5, 47.5]]"},
    )
    points = torch.tensor([[[47.5, 47.5]], [[50.0, 47.0]]]).numpy()
    tracks = dict(zip(TRACKS, (points, np.ones((2, 1)), np.full((2, 1), 0.5)), strict=True))
    return Scene(document, **maps_of(reconstruction, np.ones((2, 96, 96), bool)), tracks=tracks)
