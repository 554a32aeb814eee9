from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from model import VGGT
from model.errors import CheckpointError
from model.families.vggt.config import VGGTConfig
from model.families.vggt.presets import PRESETS
from model.files.checkpoint import load_checkpoint, resolve_checkpoint


@pytest.fixture
def folder(net: VGGT, tmp_path: Path) -> Path:
    save_file(net.state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(net.config.to_dict()))
    return tmp_path


def test_a_checkpoint_gives_the_network_back(net: VGGT, folder: Path) -> None:
    loaded = load_checkpoint(folder)
    assert not loaded.training
    images = torch.rand(2, 3, 28, 28)
    with torch.no_grad():
        assert torch.equal(loaded(images).depth, net(images).depth)


def test_a_plain_state_dict_is_read_as_well(net: VGGT, folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save(net.state_dict(), folder / "model.pt")
    loaded = load_checkpoint(folder / "model.pt")
    assert all(
        torch.equal(a, b) for a, b in zip(loaded.parameters(), net.parameters(), strict=True)
    )


def test_half_precision_weights_become_float32(net: VGGT, folder: Path) -> None:
    save_file({k: v.half() for k, v in net.state_dict().items()}, folder / "model.safetensors")
    assert {p.dtype for p in load_checkpoint(folder).parameters()} == {torch.float32}


def test_heads_are_left_out_without_reading_them(folder: Path) -> None:
    loaded = load_checkpoint(folder, heads=["camera", "depth"])
    assert loaded.config.heads == ("camera", "depth")
    assert loaded.track_head is None


def test_heads_without_tensors_are_left_out(net: VGGT, folder: Path) -> None:
    state = {
        name: tensor
        for name, tensor in net.state_dict().items()
        if not name.startswith(("track", "point"))
    }
    save_file(state, folder / "model.safetensors")
    assert load_checkpoint(folder).config == net.config.with_heads(["camera", "depth"])
    with pytest.raises(
        ValueError, match="head 'track' was asked for; this network has camera, depth"
    ):
        load_checkpoint(folder, heads=["track"])


def test_a_part_of_a_head_is_not_enough(net: VGGT, folder: Path) -> None:
    state = net.state_dict()
    missing = next(name for name in state if name.startswith("track_head."))
    del state[missing]
    save_file(state, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=rf"1 missing \(first: {missing}\)"):
        load_checkpoint(folder)


def test_a_training_checkpoint_is_read_as_it_is(net: VGGT, folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    state = {f"module.{name}": tensor for name, tensor in net.state_dict().items()}
    torch.save({"model": state, "epoch": 20}, folder / "last.pt")
    loaded = load_checkpoint(folder)
    assert all(
        torch.equal(a, b) for a, b in zip(loaded.parameters(), net.parameters(), strict=True)
    )


def test_a_tensor_with_nan_is_named(net: VGGT, folder: Path) -> None:
    state = net.state_dict()
    state["camera_head.trunk_norm.bias"][0] = torch.nan
    save_file(state, folder / "model.safetensors")
    with pytest.raises(
        CheckpointError, match=r"camera_head\.trunk_norm\.bias holds 1 of 64 values that are NaN"
    ):
        load_checkpoint(folder)


def test_the_bundled_demo_checkpoint_is_the_demo_preset() -> None:
    assert resolve_checkpoint("demo")[1] == PRESETS["demo"]
    assert load_checkpoint("demo").config == PRESETS["demo"]


def test_a_hub_configuration_means_vggt_1b(folder: Path) -> None:
    (folder / "config.json").write_text(
        json.dumps({"img_size": 518, "patch_size": 14, "embed_dim": 1024})
    )
    assert resolve_checkpoint(folder)[1] == PRESETS["vggt-1b"]


@pytest.mark.parametrize("location", ["nowhere", "./a/b", "a/b/c.safetensors"])
def test_a_place_without_a_checkpoint_is_named(location: str) -> None:
    with pytest.raises(CheckpointError, match=f"no checkpoint at '{location}'"):
        load_checkpoint(location)


def test_the_name_of_the_file_tells_what_tensors_do_not(tmp_path: Path) -> None:
    tensors = {"aggregator.camera_token": torch.zeros(1), "track_head.one": torch.zeros(1)}
    for name, expected in (("model.pt", False), ("model_tracker_fixed_e20.pt", True)):
        folder = tmp_path / str(expected)
        folder.mkdir()
        torch.save(tensors, folder / name)
        _, config = resolve_checkpoint(folder)
        assert isinstance(config, VGGTConfig)
        assert config.track_head is not None
        assert config.track_head.pos_embed is expected


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"holds no weights: expected model\.safetensors"):
        load_checkpoint(tmp_path)


def test_a_missing_tensor_is_named(net: VGGT, folder: Path) -> None:
    state = net.state_dict()
    del state["aggregator.camera_token"]
    save_file(state, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"1 missing \(first: aggregator.camera_token\)"):
        load_checkpoint(folder)


def test_an_unknown_tensor_is_named(net: VGGT, folder: Path) -> None:
    save_file({**net.state_dict(), "extra": torch.zeros(1)}, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"1 unknown \(first: extra\)"):
        load_checkpoint(folder)


def test_a_tensor_of_another_shape_is_named(net: VGGT, folder: Path) -> None:
    save_file(
        {**net.state_dict(), "aggregator.camera_token": torch.zeros(1)},
        folder / "model.safetensors",
    )
    with pytest.raises(CheckpointError, match=r"camera_token has shape \(1,\)"):
        load_checkpoint(folder)


def test_a_broken_configuration_is_refused(folder: Path) -> None:
    (folder / "config.json").write_text('{"depth": 2, "colour": 1}')
    with pytest.raises(CheckpointError, match="colour"):
        load_checkpoint(folder)
