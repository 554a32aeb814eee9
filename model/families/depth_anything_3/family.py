"""Depth Anything 3's record."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from model.families.depth_anything_3.backbone import SPECIAL_TOKENS
from model.families.depth_anything_3.cameras import encoding_to_cameras
from model.families.depth_anything_3.config import HEADS, DepthAnything3Config
from model.families.depth_anything_3.metric import depth_in_metres, in_metres
from model.families.depth_anything_3.network import DepthAnything3, block_name
from model.families.depth_anything_3.presets import PRESETS
from model.families.depth_anything_3.sky import is_sky, with_far_sky
from model.families.depth_anything_3.stages import DepthAnything3Stages
from model.families.family import Family, Geometry, Grid, Licence, Part, Shapes
from model.network.prediction import Prediction
from model.rotations import invert_extrinsics

_BLOCK_LINEARS = r"\.\d+\.(attn\.(qkv|proj)|mlp\.(fc1|fc2|w12|w3))"
_LONGER_SIDE = 504  # pixels
_NESTED = "da3."  # what the any-view branch's names begin with where there is a metric one as well
_BACKBONE = "backbone.pretrained."
_FIELD_OF_VIEW = math.radians(60)  # of a picture's longer side, where nothing is known of it
_SURE, _UNSURE = 2.0, 1.0  # confidence where a network knows no more than what is sky


def _recognise(
    config_json: Mapping[str, Any] | None, tensors: Shapes, location: str
) -> DepthAnything3Config | None:
    """The public network of these shapes; that of `config.json` where it is one of our own. That
    depth is metric no shape tells, but `config.json` or the location does."""
    nested = f"{_NESTED}{_BACKBONE}cls_token" in tensors
    prefix = f"{_NESTED if nested else ''}{_BACKBONE}"
    if f"{prefix}cls_token" not in tensors:
        return None
    if config_json is not None and "embed_dim" in config_json:
        return DepthAnything3Config.from_dict(config_json)
    any_view = f"{prefix}camera_token" in tensors
    shape = tensors[f"{prefix}cls_token"]
    depth = sum(
        re.fullmatch(rf"{re.escape(prefix)}blocks\.\d+\.norm1\.weight", name) is not None
        for name in tensors
    )
    metric = "metric" in str((config_json or {}).get("model_name", location)).lower()
    kind = "any-view" if any_view else "metric" if metric else "mono"
    for config in PRESETS.values():
        if (config.kind, config.depth, config.embed_dim) == (kind, depth, shape[-1]):
            return config
    raise ValueError(
        f"it is a Depth Anything 3 of {depth} blocks of width {shape[-1]}, of kind {kind}; known "
        f"are {', '.join(PRESETS)}"
    )


def _tensor_name(config: DepthAnything3Config, name: str) -> str:
    name = name.removeprefix(_NESTED)
    if not name.startswith(_BACKBONE):
        return name
    name = name.removeprefix(_BACKBONE)
    if not name.startswith("blocks."):
        return f"backbone.{name}"
    _, index, rest = name.split(".", 2)
    return f"{block_name(config, int(index))}.{rest}"


def _ignored(config: DepthAnything3Config) -> tuple[str, ...]:
    """Gaussians, the metric branch of a nested checkpoint, the rays' coarser outputs, and what
    heads left out would hold."""
    chains = ("refinenet1_aux", "refinenet2_aux", "refinenet3_aux", "refinenet4_aux")
    outputs = ("output_conv1_aux", "output_conv2_aux")
    coarser = tuple(f"head.scratch.{name}.{level}." for name in outputs for level in (0, 1, 2))
    rays = tuple(f"head.scratch.{name}." for name in (*chains, *outputs))
    names = ["gs_head.", "gs_adapter.", "da3_metric.", *coarser]
    names += [] if "rays" in config.heads else rays
    names += [] if "depth" in config.heads else ["head."]
    names += [] if "camera" in config.heads else ["cam_dec.", "cam_enc."]
    return tuple(names)


def _decode(
    config: DepthAnything3Config, prediction: Prediction, size: tuple[int, int]
) -> Geometry:
    if not config.any_view:
        return _single_pictures(config, prediction, size)
    extrinsics = intrinsics = None
    if prediction.pose_enc is not None:
        extrinsics, intrinsics = encoding_to_cameras(prediction.pose_enc, size)
        # the network's world is the reference view's camera, about
        exact = extrinsics.double()
        moved = exact @ invert_extrinsics(exact[:1])
        extrinsics = moved.to(extrinsics.dtype)
    depth = None if prediction.depth is None else prediction.depth[..., 0]
    return Geometry(extrinsics, intrinsics, depth, prediction.depth_conf, points=None)


def _single_pictures(
    config: DepthAnything3Config, prediction: Prediction, size: tuple[int, int]
) -> Geometry:
    """Each picture has a world of its own, and the focal length of a usual lens until another is
    known."""
    depth, sky = prediction.depth, prediction.sky
    if depth is None or sky is None:
        return Geometry(None, None, None, None, None)
    depth = with_far_sky(depth[..., 0], sky)
    intrinsics = _of_a_usual_lens(depth, size)
    if config.kind == "metric":
        depth = depth_in_metres(depth, intrinsics)
    extrinsics = torch.eye(3, 4, dtype=depth.dtype).expand(len(depth), -1, -1)
    confidence = torch.where(is_sky(sky), _UNSURE, _SURE).to(depth.dtype)
    return Geometry(extrinsics, intrinsics, depth, confidence, points=None)


def _of_a_usual_lens(depth: Tensor, size: tuple[int, int]) -> Tensor:
    height, width = size
    focal = max(size) / 2 / math.tan(_FIELD_OF_VIEW / 2)
    matrix = depth.new_tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    return matrix.expand(len(depth), -1, -1)


def _scale(config: DepthAnything3Config) -> Literal["arbitrary", "metre"]:
    return "metre" if config.kind == "metric" else "arbitrary"


def _in_metres(scene: Geometry, metric: Prediction) -> Geometry:
    assert metric.depth is not None
    assert metric.sky is not None
    found, _ = in_metres(scene, metric.depth[..., 0], metric.sky)
    return found


_APACHE = Licence(
    "Apache-2.0",
    True,
    "README and model card, read 2026-11; whether the terms of the training data allow it is asked "
    "in the project's issue 203, unanswered",
)
_NON_COMMERCIAL = Licence("CC-BY-NC-4.0", False, "README, read 2026-11")
_LARGE_1_1 = Licence(
    "CC-BY-NC-4.0",
    False,
    "README, read 2026-11; the model card says Apache-2.0, which the project's issue 259 asks "
    "about",
)

DEPTH_ANYTHING_3 = Family(
    name=DepthAnything3Config.family,
    config=DepthAnything3Config,
    presets=PRESETS,
    build=DepthAnything3,
    recognise=_recognise,
    tensor_name=_tensor_name,
    ignored=_ignored,
    heads=HEADS,
    heads_share=0.3,
    special_tokens=lambda config: SPECIAL_TOKENS,
    least_tracked_side=lambda config: 0,
    stages=DepthAnything3Stages,
    parts={
        "aggregator": Part(re.compile(rf"backbone\.scene_blocks{_BLOCK_LINEARS}"), "w4a4"),
        "image_encoder": Part(re.compile(rf"backbone\.frame_blocks{_BLOCK_LINEARS}"), "w4a8"),
        "camera_head": Part(re.compile(r"cam_dec\.backbone\.[02]"), "w4a8"),
        "camera_encoder": Part(re.compile(rf"cam_enc\.trunk{_BLOCK_LINEARS}"), "w4a8"),
    },
    grid=lambda config: Grid(
        min(_LONGER_SIDE, config.img_size), config.patch_size, "upper_bound_resize"
    ),
    decode=_decode,
    scale=_scale,
    licences={
        "depth-anything/DA3-SMALL": _APACHE,
        "depth-anything/DA3-BASE": _APACHE,
        "depth-anything/DA3MONO-LARGE": _APACHE,
        "depth-anything/DA3METRIC-LARGE": _APACHE,
        "depth-anything/DA3-LARGE": _NON_COMMERCIAL,
        "depth-anything/DA3-LARGE-1.1": _LARGE_1_1,
        "depth-anything/DA3-GIANT": _NON_COMMERCIAL,
        "depth-anything/DA3-GIANT-1.1": _NON_COMMERCIAL,
        "depth-anything/DA3NESTED-GIANT-LARGE": _NON_COMMERCIAL,
        "depth-anything/DA3NESTED-GIANT-LARGE-1.1": _NON_COMMERCIAL,
    },
    takes_cameras=lambda config: "camera" in config.heads,
    single_pictures=lambda config: not config.any_view,
    in_metres=_in_metres,
)
