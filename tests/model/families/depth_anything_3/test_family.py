from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from model import families
from model.families.depth_anything_3.presets import PRESETS
from model.files.checkpoint import build_empty
from model.network.config import NetworkConfig

NAMES = Path(__file__).parents[3] / "parity" / "names"
LISTED = {
    "da3-small": "da3_small",
    "da3-base": "da3_base",
    "da3metric-large": "da3metric_large",
}


def _listed(name: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a public checkpoint's tensors, as they are when it has been opened."""
    stored = json.loads((NAMES / f"{LISTED[name]}_state_dict.json").read_text())
    return {key.removeprefix("model."): tuple(shape) for key, shape in stored.items()}


def _config_json(name: str) -> dict[str, object]:
    return {"model_name": name, "config": {"net": {"name": "vitl"}}}


@pytest.mark.parametrize("name", LISTED)
def test_a_public_checkpoint_has_the_networks_tensors_and_ignored_ones(name: str) -> None:
    tensors = _listed(name)
    config = families.recognise(_config_json(name), tensors)
    assert config == PRESETS[name]
    family = families.of(config)
    named = {family.tensor_name(config, key): shape for key, shape in tensors.items()}
    used = {k: v for k, v in named.items() if not k.startswith(family.ignored(config))}
    built = build_empty(config).state_dict()
    assert used == {key: tuple(value.shape) for key, value in built.items()}


@pytest.mark.parametrize(
    ("name", "heads", "start", "layers"),
    [
        ("da3-small", 6, 4, (5, 7, 9, 11)),
        ("da3-base", 12, 4, (5, 7, 9, 11)),
        ("da3-large", 16, 8, (11, 15, 19, 23)),
        ("da3-giant", 24, 13, (19, 27, 33, 39)),
        ("da3mono-large", 16, None, (4, 11, 17, 23)),
        ("da3metric-large", 16, None, (4, 11, 17, 23)),
    ],
)
def test_what_no_tensor_tells_is_as_the_public_code_has_it(
    name: str, heads: int, start: int | None, layers: tuple[int, ...]
) -> None:
    config = PRESETS[name]
    assert (config.num_heads, config.alt_start, config.out_layers) == (heads, start, layers)
    assert (config.camera_encoder_heads, config.rope_freq) == (16, 100)
    assert config.reference_view == "saddle_balanced"


def test_size_is_known_without_a_config_json_and_metric_depth_is_not() -> None:
    assert families.recognise(None, _listed("da3-base")) == PRESETS["da3-base"]
    metric = _listed("da3metric-large")
    assert families.recognise(None, metric) == PRESETS["da3mono-large"]
    hub = "depth-anything/DA3METRIC-LARGE"
    assert families.recognise(None, metric, hub) == PRESETS["da3metric-large"]


def test_a_nested_checkpoint_is_read_as_its_any_view_branch() -> None:
    nested = {f"da3.{key}": shape for key, shape in _listed("da3-small").items()}
    nested["da3_metric.backbone.pretrained.cls_token"] = (1, 1, 1024)
    config = families.recognise(_config_json("da3nested-giant-large"), nested)
    assert config == PRESETS["da3-small"]
    family = families.of(config)
    name = family.tensor_name(config, "da3.backbone.pretrained.blocks.5.norm1.weight")
    assert name == "backbone.scene_blocks.5.norm1.weight"
    for left_out in ("da3_metric.head.norm.weight", "gs_head.norm.weight", "gs_adapter.weight"):
        assert left_out.startswith(family.ignored(config))


def test_a_size_that_is_not_known_is_refused_in_words() -> None:
    tensors = _listed("da3-small") | {"backbone.pretrained.cls_token": (1, 1, 640)}
    with pytest.raises(ValueError, match="12 blocks of width 640, of kind any-view"):
        families.recognise(None, tensors)


@pytest.mark.parametrize("name", PRESETS)
def test_every_layer_of_a_block_belongs_to_one_part(name: str) -> None:
    config: NetworkConfig = PRESETS[name]
    net, family = build_empty(config), families.of(config)
    for stage in net.blocks():
        linears = [
            n
            for n, m in net.get_submodule(stage.name).named_modules()
            if isinstance(m, torch.nn.Linear)
        ]
        expected = "image_encoder" if ".frame_blocks." in stage.name else "aggregator"
        assert {family.part_of(f"{stage.name}.{n}") for n in linears} == {expected}
    if PRESETS[name].any_view:
        assert family.part_of("cam_dec.backbone.2") == "camera_head"
        assert family.part_of("cam_enc.trunk.0.attn.qkv") == "camera_encoder"
        assert family.part_of("cam_dec.fc_t") is None
