from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from safetensors.torch import save_file

from model.files.checkpoint import DEMO_CHECKPOINT
from model.files.provenance import describe


def test_the_demo_checkpoint_is_named_hashed_and_licensed() -> None:
    found = describe("demo")
    assert found["checkpoint"] == "demo"
    assert found["weights_licence"] == "Apache-2.0"
    assert found["commercial_use"] is True
    assert (
        found["checkpoint_sha256"] == hashlib.sha256((DEMO_CHECKPOINT / "model.safetensors").read_bytes()).hexdigest()
    )


def test_a_local_file_is_named_without_its_folder(tmp_path: Path) -> None:
    save_file({"x": torch.zeros(1)}, tmp_path / "mine.safetensors")
    found = describe(str(tmp_path / "mine.safetensors"), licence="CC0-1.0")
    assert found["checkpoint"] == "mine.safetensors"
    assert found["weights_licence"] == "CC0-1.0"
    assert found["commercial_use"] is None
