"""From pictures to a scene: one forward pass, and what its outputs mean."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from model.errors import ReconstructionError
from model.families.vggt.network import VGGT
from model.network.execution import autocast
from model.network.prediction import Prediction
from model.scene.geometry import pose_encoding_to_cameras, unproject_depth
from model.scene.preprocess import PreprocessedImages, Source, preprocess_images
from model.scene.reconstruction import Reconstruction

# the head's fields of view are rectified, so they can be 0, and no lens has one near 180 degrees
_FIELD_OF_VIEW_DEGREES = (1.0, 175.0)


def decode(prediction: Prediction, batch: PreprocessedImages) -> Reconstruction:
    """Cameras, depth and points from a prediction for one scene (B = 1).

    Raises ValueError if the network was loaded without its camera or depth head, ReconstructionError if any value is
    not finite.
    """
    pose_enc, depth, confidence = prediction.pose_enc, prediction.depth, prediction.depth_conf
    if pose_enc is None or depth is None or confidence is None:
        raise ValueError("a reconstruction needs the camera head and the depth head; load the network with both")
    pose_enc, depth, confidence = (t[0].detach().float().cpu() for t in (pose_enc, depth[..., 0], confidence))
    for name, values in (("camera", pose_enc), ("depth", depth), ("confidence", confidence)):
        if not values.isfinite().all():
            raise ReconstructionError(
                f"the network's {name} output is not finite; the weights do not suit this precision or these pictures"
            )
    if (pose_enc[:, 3:7].norm(dim=-1) < 1e-6).any():
        raise ReconstructionError("the network's camera output has a quaternion of length zero")
    low, high = map(math.radians, _FIELD_OF_VIEW_DEGREES)
    pose_enc = torch.cat((pose_enc[:, :7], pose_enc[:, 7:].clamp(low, high)), dim=-1)

    extrinsics, intrinsics = pose_encoding_to_cameras(pose_enc, (depth.shape[-2], depth.shape[-1]))
    original = [t.intrinsics_to_original(k) for t, k in zip(batch.transforms, intrinsics, strict=True)]
    return Reconstruction(
        extrinsics=extrinsics,
        intrinsics=intrinsics,
        original_intrinsics=torch.stack(original),
        depth=depth,
        depth_conf=confidence,
        world_points=unproject_depth(depth, extrinsics, intrinsics),
        colors=(batch.images.movedim(1, -1) * 255).round().to(torch.uint8).cpu(),
        mask=torch.stack([t.content_mask() for t in batch.transforms]),
        transforms=batch.transforms,
    )


@torch.inference_mode()
def reconstruct(net: VGGT, sources: Sequence[Source], mode: str = "fit") -> Reconstruction:
    """Pictures to a scene; see `preprocess_images` for the modes and errors, `decode` for the result."""
    batch = preprocess_images(sources, mode, net.config.img_size, net.config.patch_size)
    device = next(net.parameters()).device
    with autocast(device):
        prediction = net(batch.images.to(device))
    return decode(prediction, batch)
