"""Golden inputs and outputs of public networks, of which tests of several folders read their own.

`PARITY_DIR` names another folder of the same format.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

PARITY = Path(os.environ.get("PARITY_DIR", Path(__file__).parents[1] / "parity"))


class Fixture:
    """One folder: configuration, weights, inputs, expected outputs with their tolerances."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config: dict[str, Any] = json.loads((folder / "config.json").read_text())
        self.weights, self.inputs, self.outputs = (
            self._load(part) for part in ("weights", "inputs", "outputs")
        )

    def _load(self, part: str) -> dict[str, Tensor]:
        path = self.folder / f"{part}.safetensors"
        return load_file(path) if path.exists() else {}

    def check(self, name: str, got: Tensor) -> None:
        expected = self.outputs[name]
        assert got.shape == expected.shape, (
            f"{name}: shape {tuple(got.shape)}, expected {tuple(expected.shape)}"
        )
        if not expected.is_floating_point():
            assert torch.equal(got.to(expected.dtype), expected), name
            return
        atol = self.config["atol"].get(name, self.config["atol"].get("*", 0.0))
        torch.testing.assert_close(
            got.to(expected.dtype),
            expected,
            atol=atol,
            rtol=self.config.get("rtol", 0.0),
            msg=lambda m: f"{name}: {m}",
        )


def fixtures(kind: str) -> list[Any]:
    found = []
    for path in sorted(PARITY.glob("*/config.json")):
        if json.loads(path.read_text())["kind"] == kind:
            found.append(pytest.param(path.parent, id=path.parent.name))
    return found


def cases(fixture: Fixture) -> Iterator[tuple[str, dict[str, Any]]]:
    listed = fixture.config["cases"]
    yield from ((name, listed[name] if isinstance(listed, dict) else {}) for name in listed)


def cases_of(kind: str) -> list[Any]:
    """Folder and case, for fixtures of pictures rather than tensors."""
    return [
        pytest.param(folder.values[0], case, id=f"{folder.id}-{number}")
        for folder in fixtures(kind)
        for number, case in enumerate(
            json.loads((folder.values[0] / "config.json").read_text())["cases"]
        )
    ]
