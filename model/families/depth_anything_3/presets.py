"""The sizes of the public checkpoints."""

from __future__ import annotations

from model.families.depth_anything_3.config import DepthAnything3Config

_LARGE_HEAD = (256, 512, 1024, 1024)
_MONO = DepthAnything3Config(
    kind="mono",
    embed_dim=1024,
    depth=24,
    num_heads=16,
    out_layers=(4, 11, 17, 23),
    features=256,
    out_channels=_LARGE_HEAD,
    heads=("depth",),
)

PRESETS: dict[str, DepthAnything3Config] = {
    "da3-small": DepthAnything3Config(
        kind="any-view",
        embed_dim=384,
        depth=12,
        num_heads=6,
        alt_start=4,
        out_layers=(5, 7, 9, 11),
        features=64,
        out_channels=(48, 96, 192, 384),
    ),
    "da3-base": DepthAnything3Config(
        kind="any-view",
        embed_dim=768,
        depth=12,
        num_heads=12,
        alt_start=4,
        out_layers=(5, 7, 9, 11),
        features=128,
        out_channels=(96, 192, 384, 768),
    ),
    "da3-large": DepthAnything3Config(
        kind="any-view",
        embed_dim=1024,
        depth=24,
        num_heads=16,
        alt_start=8,
        out_layers=(11, 15, 19, 23),
        features=256,
        out_channels=_LARGE_HEAD,
    ),
    "da3-giant": DepthAnything3Config(
        kind="any-view",
        embed_dim=1536,
        depth=40,
        num_heads=24,
        alt_start=13,
        gated=True,
        out_layers=(19, 27, 33, 39),
        features=256,
        out_channels=_LARGE_HEAD,
    ),
    "da3mono-large": _MONO,
    "da3metric-large": DepthAnything3Config(**{**_MONO.to_dict(), "kind": "metric"}),
}
