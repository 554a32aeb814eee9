"""From pictures to a scene: one forward pass, and what its outputs mean."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from model import families
from model.errors import ReconstructionError
from model.families.family import Geometry
from model.network.config import NetworkConfig
from model.network.execution import autocast
from model.network.network import Network
from model.network.prediction import Prediction
from model.scene.geometry import unproject_depth
from model.scene.pictures import Source
from model.scene.preprocess import PreprocessedImages, preprocess_images
from model.scene.reconstruction import Reconstruction, colors_of

# what a camera head says may be anything, 0 included; no lens sees less or nearly 180 degrees
_FIELD_OF_VIEW_DEGREES = (1.0, 175.0)


def decode(
    config: NetworkConfig, prediction: Prediction, batch: PreprocessedImages
) -> Reconstruction:
    """Cameras, depth and points from a prediction of a network of `config` for one scene (B = 1).

    Raises ValueError if the network was loaded without its camera or depth head,
    ReconstructionError if any value is not finite.
    """
    size = (batch.images.shape[-2], batch.images.shape[-1])
    one_scene = prediction.map(lambda values: values[0].detach().float().cpu())
    found = families.of(config).decode(config, one_scene, size)
    extrinsics, intrinsics, depth, confidence = (
        found.extrinsics,
        found.intrinsics,
        found.depth,
        found.confidence,
    )
    if extrinsics is None or intrinsics is None or depth is None or confidence is None:
        raise ValueError(
            "a reconstruction needs the camera head and the depth head; load the network with both"
        )
    intrinsics = _of_a_lens(intrinsics, size)
    for name, values in (
        ("camera", extrinsics),
        ("camera", intrinsics),
        ("depth", depth),
        ("confidence", confidence),
    ):
        if not values.isfinite().all():
            raise ReconstructionError(
                f"the network's {name} output is not finite; the weights do not suit this "
                "precision or these pictures"
            )

    original = [
        t.intrinsics_to_original(k) for t, k in zip(batch.transforms, intrinsics, strict=True)
    ]
    return Reconstruction(
        extrinsics=extrinsics,
        intrinsics=intrinsics,
        original_intrinsics=torch.stack(original),
        depth=depth,
        depth_conf=confidence,
        world_points=unproject_depth(depth, extrinsics, intrinsics),
        colors=colors_of(batch.images),
        mask=torch.stack([t.content_mask() for t in batch.transforms]),
        transforms=batch.transforms,
    )


@torch.inference_mode()
def reconstruct(
    net: Network,
    sources: Sequence[Source],
    mode: str = "fit",
    attention_keys: int | None = None,
) -> Reconstruction:
    """Pictures to a scene; see `preprocess_images` for the modes and errors, `Network.forward` for
    `attention_keys`, `decode` for the result."""
    grid = families.of(net.config).grid(net.config)
    batch = preprocess_images(sources, mode, grid.longer_side, grid.patch_size, grid.public)
    return decode(net.config, _predict(net, batch.images, attention_keys), batch)


@torch.inference_mode()
def geometry(net: Network, images: Tensor) -> Geometry:
    """What a network says of one scene of frames `[S, 3, H, W]` in [0, 1]: float64 on the CPU, as
    it comes."""
    prediction = _predict(net, images[None]).map(lambda values: values[0].double().cpu())
    size = (images.shape[-2], images.shape[-1])
    return families.of(net.config).decode(net.config, prediction, size)


def _predict(net: Network, images: Tensor, attention_keys: int | None = None) -> Prediction:
    """One pass as it is served."""
    device = next(net.parameters()).device
    with autocast(device):
        prediction: Prediction = net(images.to(device), attention_keys=attention_keys)
    return prediction


def _of_a_lens(intrinsics: Tensor, size: tuple[int, int]) -> Tensor:
    """Intrinsics `[S, 3, 3]` whose focal lengths are those of a field of view that a lens can
    have."""
    narrow, wide = (intrinsics.new_tensor(degrees).deg2rad() for degrees in _FIELD_OF_VIEW_DEGREES)
    intrinsics = intrinsics.clone()
    for axis, side in ((0, size[1]), (1, size[0])):
        shortest, longest = ((side / 2) / torch.tan(field / 2) for field in (wide, narrow))
        intrinsics[:, axis, axis] = intrinsics[:, axis, axis].clamp(shortest, longest)
    return intrinsics
