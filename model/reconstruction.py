"""One scene out of one forward pass: cameras, depth and points, on the network's grid and on each picture's own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model.errors import ReconstructionError
from model.execution import autocast
from model.geometry import pose_encoding_to_cameras, unproject_depth
from model.prediction import Prediction
from model.preprocess import ImageTransform, PreprocessedImages, Source, preprocess_images
from model.vggt import VGGT

# the head's fields of view are rectified, so they can be 0, and no lens has one near 180 degrees
_FIELD_OF_VIEW_DEGREES = (1.0, 175.0)


@dataclass(frozen=True)
class Reconstruction:
    """S frames of one scene; CPU tensors, float32 unless stated.

    Extrinsics are world-to-camera with OpenCV axes; the world is the first camera's frame, up to what the network
    predicts for it; the scale is arbitrary. Depth is along the camera's z axis in that scale.
    """

    extrinsics: Tensor  # [S, 3, 4]
    intrinsics: Tensor  # [S, 3, 3], pixels of the network grid
    original_intrinsics: Tensor  # [S, 3, 3], pixels of each original picture
    depth: Tensor  # [S, H, W]
    depth_conf: Tensor  # [S, H, W], at least 1
    world_points: Tensor  # [S, H, W, 3], unprojected depth
    colors: Tensor  # [S, H, W, 3], uint8
    mask: Tensor  # [S, H, W], bool: False on padding
    transforms: tuple[ImageTransform, ...]

    def original_depth(self, frame: int) -> Tensor:
        """Depth `[h, w]` on the frame's original pixel grid, NaN where the network did not see."""
        return self.transforms[frame].map_to_original(self.depth[frame])

    def original_confidence(self, frame: int) -> Tensor:
        """Depth confidence `[h, w]` on the frame's original pixel grid, NaN where the network did not see."""
        return self.transforms[frame].map_to_original(self.depth_conf[frame])


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
