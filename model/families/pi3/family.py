"""pi3's record."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

from model.families.family import Family, Geometry, Grid, Licence, Part, Shapes
from model.families.pi3.cameras import intrinsics_of
from model.families.pi3.config import HEADS, PRESETS, Pi3Config
from model.families.pi3.edges import edges
from model.families.pi3.network import SPECIAL_TOKENS, Pi3
from model.families.pi3.stages import Pi3Stages
from model.network.prediction import Prediction
from model.rotations import invert_extrinsics

_BLOCK_LINEARS = r"\.\d+\.(attn\.(qkv|proj)|mlp\.(fc1|fc2))"
_LONGER_SIDE = 518  # pixels
_SURE = 0.1  # probability above which the public code shows a point
# what takes known depth, rays and cameras, and the constants of the input, which are ImageNet's
_CONDITIONS = ("depth_encoder.", "depth_emb", "ray_embed.", "pose_inject_blk.", "image_")
_OF_HEAD = {
    "camera": ("camera_decoder.", "camera_head."),
    "depth": ("point_decoder.", "point_head.", "conf_decoder.", "conf_head."),
    "metric": ("metric_token", "metric_decoder.", "metric_head."),
}


def _recognise(
    config_json: Mapping[str, Any] | None, tensors: Shapes, location: str
) -> Pi3Config | None:
    """pi3 or Pi3X by the tensors, unless `config.json` is one of our own."""
    if not {"register_token", "encoder.cls_token", "decoder.0.norm1.weight"} <= set(tensors):
        return None
    if config_json is not None and "decoder_depth" in config_json:
        return Pi3Config.from_dict(config_json)
    return PRESETS["pi3x" if "metric_token" in tensors else "pi3"]


def _ignored(config: Pi3Config) -> tuple[str, ...]:
    """Conditions on more than pictures, and what heads left out would hold."""
    absent = [
        name for head, names in _OF_HEAD.items() if head not in config.heads for name in names
    ]
    return (*_CONDITIONS, *absent)


def _decode(config: Pi3Config, prediction: Prediction, size: tuple[int, int]) -> Geometry:
    """The network's world is no camera's: it becomes the first picture's.

    What the public code shows no points of, unsure pixels and edges, has the least confidence, 1.
    """
    extrinsics = intrinsics = confidence = None
    points, logit = prediction.camera_points, prediction.depth_conf
    if prediction.pose_enc is not None:
        to_world = prediction.pose_enc.double().unflatten(-1, (3, 4))
        exact = invert_extrinsics(to_world)
        extrinsics = (exact @ invert_extrinsics(exact[:1]))[:, :3].to(prediction.pose_enc.dtype)
    if points is not None:
        # pixel centres are at halves in the product's matrices, and the principal point at W / 2
        intrinsics = intrinsics_of(points)
        intrinsics[:, :2, 2] += 0.5
    if logit is not None:
        confidence = 1 + logit.exp()
        if points is not None:
            sure = logit.sigmoid() > _SURE
            confidence = confidence.where(sure & ~edges(points, sure), 1)
    return Geometry(
        extrinsics,
        intrinsics,
        depth=None if points is None else points[..., 2],
        confidence=confidence,
        points=None,
    )


def _scale(config: Pi3Config) -> Literal["arbitrary", "metre"]:
    return "metre" if "metric" in config.heads else "arbitrary"


_NON_COMMERCIAL = Licence(
    "CC-BY-NC-4.0",
    False,
    "README since its licences were split, read 2026-11; an older model card of pi3 says BSD-2",
)

PI3 = Family(
    name=Pi3Config.family,
    config=Pi3Config,
    presets=PRESETS,
    build=Pi3,
    recognise=_recognise,
    tensor_name=lambda config, name: name,
    ignored=_ignored,
    heads=HEADS,
    heads_share=0.1,
    special_tokens=lambda config: SPECIAL_TOKENS,
    least_tracked_side=lambda config: 0,
    stages=Pi3Stages,
    parts={
        "aggregator": Part(re.compile(rf"decoder{_BLOCK_LINEARS}"), "w4a4"),
        "image_encoder": Part(re.compile(rf"encoder\.blocks{_BLOCK_LINEARS}"), "w4a8"),
        "camera_head": Part(re.compile(rf"camera_decoder\.blocks{_BLOCK_LINEARS}"), "w4a8"),
        "depth_decoders": Part(
            re.compile(rf"(point|conf)_decoder\.blocks{_BLOCK_LINEARS}"), "w4a8"
        ),
    },
    grid=lambda config: Grid(min(_LONGER_SIDE, config.img_size), config.patch_size, "pixel_budget"),
    decode=_decode,
    scale=_scale,
    licences={"yyfz233/Pi3": _NON_COMMERCIAL, "yyfz233/Pi3X": _NON_COMMERCIAL},
)
