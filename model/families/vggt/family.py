"""VGGT's record."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from model.families.family import Family, Geometry, Grid, Licence, Part, Shapes
from model.families.vggt import network
from model.families.vggt.cameras import pose_encoding_to_cameras
from model.families.vggt.config import HEADS, VGGTConfig
from model.families.vggt.presets import PRESETS
from model.families.vggt.stages import VGGTStages
from model.network.config import TrackHeadConfig
from model.network.prediction import Prediction
from model.rotations import invert_extrinsics

_LINGBOT = "lingbot-map"
_TRACKER_FIXED = "tracker_fixed"
_BLOCK_LINEARS = r"\.\d+\.(attn\.(qkv|proj)|mlp\.(fc1|fc2))"


def _recognise(
    config_json: Mapping[str, Any] | None, tensors: Shapes, location: str
) -> VGGTConfig | None:
    """VGGT-1B unless a configuration of our own says more: the hub's lists three arguments of the
    constructor.

    Heads without any tensor are left out. Two checkpoints with VGGT-1B's tensors are known by what
    they are loaded as: the cameras of LingBot-Map's first stage are the other way round, and the
    tracker of VGGT_tracker_fixed goes with code that tells it where on the picture features are.
    """
    if not any(name.startswith("aggregator.") for name in tensors):
        return None
    config = PRESETS["vggt-1b"]
    if config_json is not None and "depth" in config_json:
        config = VGGTConfig.from_dict(config_json)
    elif _TRACKER_FIXED in location.lower():
        config = replace(config, track_head=TrackHeadConfig(pos_embed=True))
    if _LINGBOT in location.lower():
        config = replace(config, camera_to_world=True)
    return config.with_heads(
        [head for head in config.heads if any(name.startswith(f"{head}_head.") for name in tensors)]
    )


def _without_absent_heads(config: VGGTConfig) -> tuple[str, ...]:
    return tuple(f"{head}_head." for head in HEADS if head not in config.heads)


def _decode(config: VGGTConfig, prediction: Prediction, size: tuple[int, int]) -> Geometry:
    """VGGT's cameras are world-to-camera unless the configuration says the opposite, its world is
    the first camera's frame, its confidence is 1 or more."""
    encoding, depth = prediction.pose_enc, prediction.depth
    extrinsics, intrinsics = (
        (None, None) if encoding is None else pose_encoding_to_cameras(encoding, size)
    )
    if extrinsics is not None and config.camera_to_world:
        extrinsics = invert_extrinsics(extrinsics)[..., :3, :]
    return Geometry(
        extrinsics,
        intrinsics,
        depth=None if depth is None else depth[..., 0],
        confidence=prediction.depth_conf,
        points=prediction.world_points,
    )


VGGT = Family(
    name=VGGTConfig.family,
    config=VGGTConfig,
    presets=PRESETS,
    build=network.VGGT,
    recognise=_recognise,
    tensor_name=lambda config, name: name,
    ignored=_without_absent_heads,
    heads=HEADS,
    heads_share=0.2,
    special_tokens=lambda config: 1 + config.num_register_tokens,
    least_tracked_side=lambda config: config.track_head.least_side,
    stages=VGGTStages,
    # the paper quantises the aggregator's blocks only; the other two hold 40 % of the parameters
    parts={
        "aggregator": Part(
            re.compile(rf"aggregator\.(frame|global)_blocks{_BLOCK_LINEARS}"), "w4a4"
        ),
        "image_encoder": Part(
            re.compile(rf"aggregator\.patch_embed\.blocks{_BLOCK_LINEARS}"), "w4a8"
        ),
        "camera_head": Part(re.compile(rf"camera_head\.trunk{_BLOCK_LINEARS}"), "w4a8"),
    },
    grid=lambda config: Grid(config.img_size, config.patch_size),
    decode=_decode,
    scale=lambda config: "arbitrary",
    licences={
        "demo": Licence("Apache-2.0", True, "this project's own weights"),
        "facebook/VGGT-1B": Licence("CC-BY-NC-4.0", False, "model card, read 2026-11"),
        "facebook/VGGT-1B-Commercial": Licence(
            "VGGT licence",
            True,
            "model card, read 2026-11; its acceptable-use policy bars military use",
        ),
        "robbyant/lingbot-map": Licence(
            None,
            None,
            "no licence on the model card; the repository's code is Apache-2.0, whether the "
            "weights are is asked in its issue 107, read 2026-11",
        ),
    },
)
