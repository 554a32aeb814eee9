from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from safetensors.torch import save_file

from model.files.checkpoint import DEMO_CHECKPOINT
from model.files.provenance import describe, digest


def test_the_demo_checkpoint_is_named_hashed_and_licensed() -> None:
    found = describe("demo")
    assert found["checkpoint"] == "demo"
    assert found["weights_licence"] == "Apache-2.0"
    assert found["commercial_use"] is True
    assert found["licence_source"] == "this project's own weights"
    assert (
        found["checkpoint_sha256"]
        == hashlib.sha256((DEMO_CHECKPOINT / "model.safetensors").read_bytes()).hexdigest()
    )


def test_a_local_file_is_named_without_its_folder(tmp_path: Path) -> None:
    save_file({"x": torch.zeros(1)}, tmp_path / "mine.safetensors")
    found = describe(str(tmp_path / "mine.safetensors"), licence="CC0-1.0")
    assert found["checkpoint"] == "mine.safetensors"
    assert found["weights_licence"] == "CC0-1.0"
    assert found["commercial_use"] is None
    assert found["licence_source"] == "said when the checkpoint was quantised"


def test_a_copy_of_a_public_checkpoint_has_its_licence_if_that_is_said(tmp_path: Path) -> None:
    save_file({"x": torch.zeros(1)}, tmp_path / "mine.safetensors")
    path = str(tmp_path / "mine.safetensors")
    small, large = (describe(path, f"depth-anything/DA3-{size}") for size in ("SMALL", "LARGE"))
    assert (small["weights_licence"], small["commercial_use"]) == ("Apache-2.0", True)
    assert (large["weights_licence"], large["commercial_use"]) == ("CC-BY-NC-4.0", False)
    assert small["licence_source"].startswith(
        "said when the checkpoint was quantised, as that of depth-anything/DA3-SMALL: README"
    )
    assert small["checkpoint"] == "mine.safetensors"


def test_shards_are_hashed_as_the_list_of_their_hashes(tmp_path: Path) -> None:
    save_file({"x": torch.zeros(1)}, tmp_path / "model-00001-of-00001.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"x": "model-00001-of-00001.safetensors"}}')
    hashes = [
        (hashlib.sha256(file.read_bytes()).hexdigest(), file.name)
        for file in sorted(tmp_path.iterdir())[::-1]
    ]
    assert (
        digest(index)
        == hashlib.sha256("".join(f"{h}  {name}\n" for h, name in hashes).encode()).hexdigest()
    )
