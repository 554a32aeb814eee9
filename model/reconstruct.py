"""From pictures to a scene: one forward pass, and what its outputs mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from model import families
from model.errors import ReconstructionError
from model.families.family import Family, Geometry
from model.network.config import NetworkConfig
from model.network.execution import autocast
from model.network.network import Network
from model.network.prediction import Prediction
from model.scene.geometry import unproject_depth
from model.scene.pictures import Source
from model.scene.preprocess import PreprocessedImages, preprocess_images
from model.scene.reconstruction import Reconstruction, colors_of
from model.scene.similarity import Similarity, fit_cameras

Cameras = tuple[Tensor, Tensor]
"""Known ones of S pictures: world-to-camera `[S, 3, 4]`, and intrinsics `[S, 3, 3]` in pixels of
the originals."""

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
    cameras: Cameras | None = None,
    metric: Network | None = None,
) -> Reconstruction:
    """Pictures to a scene; see `preprocess_images` for the modes and errors, `Network.forward` for
    `attention_keys`, `decode` for the result.

    `metric` is a second network of the family, which looks at the pictures one by one and brings
    the scene to metres; see `Family.in_metres`, also for errors. Raises ValueError if it is none
    that can.

    `cameras` are those of the pictures, where they are known and the network takes them. The scene
    is then brought onto them, depth and all; one camera fixes no scale. Raises ValueError if the
    network takes none, or they are not as many as the pictures.
    """
    family = families.of(net.config)
    grid = family.grid(net.config)
    batch = preprocess_images(sources, mode, grid.longer_side, grid.patch_size, grid.public)
    if cameras is not None and not family.takes_cameras(net.config):
        raise ValueError("cameras were given, but this network looks at pictures alone")
    if metric is not None and not _can_scale(net.config, metric.config):
        raise ValueError(
            f"a network of {metric.config.family} was given to bring one of {net.config.family} to "
            "metres; that takes the metric one of Depth Anything 3 beside one of its networks for "
            "many pictures"
        )
    known = known_to_network(cameras, batch, next(net.parameters()).device)
    scene = decode(net.config, _predict(net, batch.images, attention_keys, **known), batch)
    if metric is not None:
        scene = _in_metres(family, scene, _predict(metric, batch.images))
    if cameras is None:
        return scene
    return _onto(scene, fit_cameras(scene.extrinsics, cameras[0]))


def known_to_network(
    cameras: Cameras | None, batch: PreprocessedImages, device: torch.device | str
) -> dict[str, Any]:
    """What a network's `forward` is told of a batch (B = 1) besides its pictures: the cameras, if
    any are known; see `Family.takes_cameras`."""
    if cameras is None:
        return {}
    extrinsics, original = cameras
    count = len(batch.transforms)
    if extrinsics.shape != (count, 3, 4) or original.shape != (count, 3, 3):
        raise ValueError(
            f"cameras have shapes {tuple(extrinsics.shape)} and {tuple(original.shape)}; expected "
            f"extrinsics [{count}, 3, 4] and intrinsics [{count}, 3, 3], one for each picture"
        )
    intrinsics = torch.stack(
        [
            t.intrinsics_to_network(matrix)
            for t, matrix in zip(batch.transforms, original, strict=True)
        ]
    )
    last = extrinsics.new_tensor([0, 0, 0, 1]).expand(len(extrinsics), 1, 4)
    square = torch.cat((extrinsics, last), dim=1)
    return {"cameras": (square[None].to(device), intrinsics[None].to(device))}


@torch.inference_mode()
def geometry(net: Network, images: Tensor) -> Geometry:
    """What a network says of one scene of frames `[S, 3, H, W]` in [0, 1]: float64 on the CPU, as
    it comes."""
    prediction = _predict(net, images[None]).map(lambda values: values[0].double().cpu())
    size = (images.shape[-2], images.shape[-1])
    return families.of(net.config).decode(net.config, prediction, size)


def _predict(
    net: Network, images: Tensor, attention_keys: int | None = None, **known: Any
) -> Prediction:
    """One pass as it is served."""
    device = next(net.parameters()).device
    with autocast(device):
        prediction: Prediction = net(images.to(device), attention_keys=attention_keys, **known)
    return prediction


def _can_scale(config: NetworkConfig, metric: NetworkConfig) -> bool:
    """Whether a network of `metric` brings scenes of one of `config` to metres."""
    family = families.of(config)
    return (
        family.in_metres is not None
        and not family.single_pictures(config)
        and family is families.of(metric)
        and family.single_pictures(metric)
        and family.scale(metric) == "metre"
    )


def _in_metres(family: Family, scene: Reconstruction, metric: Prediction) -> Reconstruction:
    assert family.in_metres is not None
    found = family.in_metres(
        Geometry(scene.extrinsics, scene.intrinsics, scene.depth, scene.depth_conf, None),
        metric.map(lambda values: values[0].float().cpu()),
    )
    extrinsics, depth, confidence = found.extrinsics, found.depth, found.confidence
    assert extrinsics is not None
    assert depth is not None
    assert confidence is not None
    points = unproject_depth(depth, extrinsics, scene.intrinsics)
    return replace(
        scene, extrinsics=extrinsics, depth=depth, depth_conf=confidence, world_points=points
    )


def _onto(scene: Reconstruction, similarity: Similarity) -> Reconstruction:
    extrinsics = similarity.move_extrinsics(scene.extrinsics).float()
    depth = similarity.scale * scene.depth
    points = unproject_depth(depth, extrinsics, scene.intrinsics)
    return replace(scene, extrinsics=extrinsics, depth=depth, world_points=points)


def _of_a_lens(intrinsics: Tensor, size: tuple[int, int]) -> Tensor:
    """Intrinsics `[S, 3, 3]` whose focal lengths are those of a field of view that a lens can
    have."""
    narrow, wide = (intrinsics.new_tensor(degrees).deg2rad() for degrees in _FIELD_OF_VIEW_DEGREES)
    intrinsics = intrinsics.clone()
    for axis, side in ((0, size[1]), (1, size[0])):
        shortest, longest = ((side / 2) / torch.tan(field / 2) for field in (wide, narrow))
        intrinsics[:, axis, axis] = intrinsics[:, axis, axis].clamp(shortest, longest)
    return intrinsics
