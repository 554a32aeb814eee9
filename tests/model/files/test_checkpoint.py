from __future__ import annotations

import json
import pickle
from pathlib import Path

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import EntryNotFoundError
from safetensors.torch import save_file

from model import VGGT
from model.errors import CheckpointError
from model.families.vggt.presets import PRESETS
from model.files import checkpoint
from model.files.checkpoint import TensorSource, load_checkpoint, resolve_checkpoint


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
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), net.parameters(), strict=True))


@pytest.mark.parametrize("name", ["model.safetensors", "model.pt"])
def test_giving_mapped_memory_back_changes_nothing(
    net: VGGT, folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(net.state_dict(), folder / "model.pt")
    monkeypatch.setattr(checkpoint, "_MAPPED_BYTES", 1000)
    loaded = load_checkpoint(folder / name)
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), net.parameters(), strict=True))


def test_half_precision_weights_become_float32(net: VGGT, folder: Path) -> None:
    save_file({k: v.half() for k, v in net.state_dict().items()}, folder / "model.safetensors")
    assert {p.dtype for p in load_checkpoint(folder).parameters()} == {torch.float32}


def test_heads_are_left_out_without_reading_them(folder: Path) -> None:
    loaded = load_checkpoint(folder, heads=["camera", "depth"])
    assert loaded.config.heads == ("camera", "depth")
    assert loaded.track_head is None


def test_the_bundled_demo_checkpoint_is_the_demo_preset() -> None:
    assert resolve_checkpoint("demo")[1] == PRESETS["demo"]
    assert load_checkpoint("demo").config == PRESETS["demo"]


def test_a_hub_configuration_means_vggt_1b(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"img_size": 518, "patch_size": 14, "embed_dim": 1024}))
    assert resolve_checkpoint(folder)[1] == PRESETS["vggt-1b"]


@pytest.mark.parametrize("location", ["nowhere", "./a/b", "a/b/c.safetensors"])
def test_a_place_without_a_checkpoint_is_named(location: str) -> None:
    with pytest.raises(CheckpointError, match=f"no checkpoint at '{location}'"):
        load_checkpoint(location)


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"holds none of model\.safetensors, model\.pt"):
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
    save_file({**net.state_dict(), "aggregator.camera_token": torch.zeros(1)}, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"camera_token has shape \(1,\)"):
        load_checkpoint(folder)


def test_a_truncated_file_is_refused(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="not a readable checkpoint"):
        load_checkpoint(folder)


class _Touch:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> object:
        return Path.touch, (self.path,)


def test_pickled_code_is_never_run(folder: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    torch.save({"weights": _Touch(victim)}, folder / "model.pt")
    with pytest.raises(CheckpointError, match="refused"):
        TensorSource(folder / "model.pt")
    (folder / "plain.pt").write_bytes(pickle.dumps(_Touch(victim)))
    with pytest.raises(CheckpointError):
        TensorSource(folder / "plain.pt")
    assert not victim.exists()


def test_a_file_that_holds_no_tensors_is_refused(folder: Path) -> None:
    torch.save([1, 2], folder / "model.pt")
    with pytest.raises(CheckpointError, match="plain dictionary of tensors"):
        TensorSource(folder / "model.pt")


def test_a_broken_configuration_is_refused(folder: Path) -> None:
    (folder / "config.json").write_text('{"depth": 2, "colour": 1}')
    with pytest.raises(CheckpointError, match="colour"):
        load_checkpoint(folder)


def test_a_hub_repository_is_fetched_with_its_configuration(
    net: VGGT, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def hub(repository: str, name: str) -> str:
        asked.append((repository, name))
        if not (folder / name).is_file():
            raise EntryNotFoundError(name)
        return str(folder / name)

    (folder / "model.safetensors").rename(folder / "unused")
    torch.save(net.state_dict(), folder / "model.pt")
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", hub)
    assert load_checkpoint("someone/vggt-small").config == net.config
    assert asked == [("someone/vggt-small", name) for name in ("config.json", "model.safetensors", "model.pt")]


def test_a_hub_that_cannot_be_reached_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def hub(repository: str, name: str) -> str:
        raise OSError("no route to host")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", hub)
    with pytest.raises(CheckpointError, match="someone/vggt cannot be downloaded: no route to host"):
        load_checkpoint("someone/vggt")
