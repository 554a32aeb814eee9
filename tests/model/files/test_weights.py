from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from model.errors import CheckpointError
from model.files import weights
from model.files.weights import TensorSource, choose


@pytest.fixture
def state() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {
        "a.weight": torch.randn(40, 30),
        "a.bias": torch.randn(40),
        "b.scale": torch.tensor(2.0),
    }


def write_shards(folder: Path, state: dict[str, Tensor], suffix: str = "safetensors") -> Path:
    """One shard a tensor, and their index, as the public libraries write them."""
    stem = "model" if suffix == "safetensors" else "pytorch_model"
    where = {}
    for number, (name, tensor) in enumerate(state.items(), 1):
        where[name] = f"{stem}-{number:05}-of-{len(state):05}.{suffix}"
        if suffix == "safetensors":
            save_file({name: tensor}, folder / where[name])
        else:
            torch.save({name: tensor}, folder / where[name])
    index = folder / f"{stem}.{suffix}.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": where}))
    return index


def assert_holds(source: TensorSource, state: dict[str, Tensor]) -> None:
    assert set(source.names) == set(state)
    for name, tensor in state.items():
        assert source.shape(name) == tuple(tensor.shape)
        assert torch.equal(source.read(name), tensor)


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["config.json", "model.pt", "model.safetensors"], "model.safetensors"),
        (["a.pt", "b.pt", "pytorch_model.bin"], "pytorch_model.bin"),
        (["README.md", "only.pth"], "only.pth"),
        (["sub/other.pt", "top.pt"], "top.pt"),
        (["sub/only.safetensors"], "sub/only.safetensors"),
        (["m-00001-of-00002.bin", "m-00002-of-00002.bin", "m.bin.index.json"], "m.bin.index.json"),
    ],
)
def test_the_file_that_holds_the_weights_is_found(names: list[str], chosen: str) -> None:
    assert choose(names, "here", "/") == chosen


def test_several_files_without_a_known_name_are_listed() -> None:
    with pytest.raises(
        CheckpointError, match=r"here holds several weights files \(a\.pt, b\.pt\).* here/a\.pt"
    ):
        choose(["b.pt", "a.pt", "config.json"], "here", "/")


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_shards_are_one_checkpoint(state: dict[str, Tensor], tmp_path: Path, suffix: str) -> None:
    index = write_shards(tmp_path, state, suffix)
    assert choose([file.name for file in tmp_path.iterdir()], "here", "/") == index.name
    assert_holds(TensorSource(index), state)


def test_a_missing_shard_is_named(state: dict[str, Tensor], tmp_path: Path) -> None:
    index = write_shards(tmp_path, state)
    (tmp_path / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(
        CheckpointError, match=r"no checkpoint at .*model-00002-of-00003\.safetensors"
    ):
        TensorSource(index)


def test_a_shard_without_a_tensor_of_the_index_is_named(
    state: dict[str, Tensor], tmp_path: Path
) -> None:
    index = write_shards(tmp_path, state)
    save_file({"other": torch.ones(1)}, tmp_path / "model-00002-of-00003.safetensors")
    with pytest.raises(
        CheckpointError, match=r"lists a\.bias, but model-00002-of-00003\.safetensors does not hold"
    ):
        TensorSource(index)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"weight_map": []}',
        '{"weight_map": {"a": 1}}',
        '{"weight_map": {"a": "../b.bin"}}',
    ],
)
def test_a_broken_index_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "model.bin.index.json").write_text(content)
    with pytest.raises(CheckpointError, match="expected"):
        TensorSource(tmp_path / "model.bin.index.json")


@pytest.mark.parametrize("key", ["model", "state_dict"])
def test_weights_are_taken_out_of_what_training_code_saves(
    state: dict[str, Tensor], tmp_path: Path, key: str
) -> None:
    optimizer = {
        "state": {0: {"step": 3, "average": torch.ones(2)}},
        "param_groups": [{"lr": 1e-4, "params": [0]}],
    }
    torch.save({key: state, "optimizer": optimizer, "epoch": 20}, tmp_path / "last.pt")
    assert_holds(TensorSource(tmp_path / "last.pt"), state)


@pytest.mark.parametrize("prefix", ["module.", "model.", "module._orig_mod."])
@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
def test_prefixes_of_training_code_are_removed(
    state: dict[str, Tensor], tmp_path: Path, prefix: str, suffix: str
) -> None:
    file, named = (
        tmp_path / f"a.{suffix}",
        {prefix + name: tensor for name, tensor in state.items()},
    )
    if suffix == "pt":
        torch.save({"model": named}, file)
    else:
        save_file(named, file)
    assert_holds(TensorSource(file), state)


def test_a_prefix_that_not_all_names_have_is_kept(tmp_path: Path) -> None:
    save_file({"module.a": torch.ones(1), "b": torch.ones(1)}, tmp_path / "a.safetensors")
    assert set(TensorSource(tmp_path / "a.safetensors").names) == {"module.a", "b"}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_nan_and_infinity_are_refused_with_the_tensor_and_its_file(
    state: dict[str, Tensor], tmp_path: Path, value: float, dtype: torch.dtype
) -> None:
    state["a.weight"][3, 4] = value
    index = write_shards(tmp_path, {name: tensor.to(dtype) for name, tensor in state.items()})
    source = TensorSource(index)
    assert source.read("a.bias").isfinite().all()
    with pytest.raises(
        CheckpointError,
        match=r"model-00001-of-00003\.safetensors: a\.weight holds 1 of 1200 values that are NaN "
        r"or inf",
    ):
        source.read("a.weight")


def test_a_value_too_large_for_float32_is_refused(tmp_path: Path) -> None:
    save_file({"a": torch.tensor([1e300], dtype=torch.float64)}, tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match="a holds 1 of 1 values"):
        TensorSource(tmp_path / "a.safetensors").read("a")


@pytest.mark.parametrize(
    "odd", [torch.ones(2, dtype=torch.int8), torch.eye(2).to_sparse(), torch.ones(2, device="meta")]
)
def test_what_is_not_plain_numbers_is_refused(tmp_path: Path, odd: Tensor) -> None:
    torch.save({"a": odd}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=r"expected|refused|not a readable"):
        TensorSource(tmp_path / "a.pt").read("a")


def test_every_precision_is_read_as_float32(state: dict[str, Tensor], tmp_path: Path) -> None:
    save_file({name: tensor.half() for name, tensor in state.items()}, tmp_path / "a.safetensors")
    assert_holds(
        TensorSource(tmp_path / "a.safetensors"), {n: t.half().float() for n, t in state.items()}
    )


@pytest.mark.parametrize("kind", ["file", "pickle", "shards"])
def test_giving_mapped_memory_back_changes_nothing(
    state: dict[str, Tensor], tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "_MAPPED_BYTES", 100)
    save_file(state, tmp_path / "a.safetensors")
    torch.save(state, tmp_path / "a.pt")
    index = write_shards(tmp_path, state)
    file = {"file": tmp_path / "a.safetensors", "pickle": tmp_path / "a.pt", "shards": index}[kind]
    assert_holds(TensorSource(file), state)


def test_a_truncated_file_is_refused(state: dict[str, Tensor], tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    save_file(state, file)
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="not a readable checkpoint"):
        TensorSource(file)


class _Touch:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> object:
        return Path.touch, (self.path,)


def test_pickled_code_is_never_run(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    torch.save({"weights": _Touch(victim)}, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match="refused"):
        TensorSource(tmp_path / "model.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(_Touch(victim)))
    with pytest.raises(CheckpointError):
        TensorSource(tmp_path / "plain.pt")
    assert not victim.exists()


@pytest.mark.parametrize("content", [[1, 2], {}, {"model": 3}, {"model": {"a": 1}}, {"epoch": 3}])
def test_a_file_that_holds_no_tensors_is_refused(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match="plain dictionary of tensors"):
        TensorSource(tmp_path / "model.pt")
