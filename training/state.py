"""A training state on disk: tensors in files of bounded size, and a manifest whose renaming commits
them all."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

MANIFEST = "state.json"
_FILE_BYTES = 15_000_000


def save_state(
    out: Path, step: int, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]
) -> None:
    """Writes `out/state-<step>-<part>.pt` and the manifest, then removes what the previous state
    left.

    A crash at any moment leaves either the old state or the new one. No file exceeds 16 MB unless
    one tensor does.
    """
    out.mkdir(parents=True, exist_ok=True)
    parts: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().clone()  # a view would drag its whole storage into the file
        if parts[-1] and size + tensor.nbytes > _FILE_BYTES:
            parts.append({})
            size = 0
        parts[-1][name] = tensor
        size += tensor.nbytes
    names = [f"state-{step:07d}-{index:02d}.pt" for index in range(len(parts))]
    for name, part in zip(names, parts, strict=True):
        torch.save(part, out / f"{name}.tmp")
        os.replace(out / f"{name}.tmp", out / name)
    write_json(out / MANIFEST, {"step": step, "files": names, **facts})
    for stale in out.glob("state-*.pt*"):
        if stale.name not in names:
            stale.unlink()


def load_state(out: Path) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
    """The manifest and the tensors of the state in `out`, or None if there is none."""
    path = out / MANIFEST
    if not path.exists():
        return None
    manifest: dict[str, Any] = json.loads(path.read_text())
    tensors: dict[str, Tensor] = {}
    for name in manifest["files"]:
        tensors.update(torch.load(out / name, map_location="cpu", weights_only=True))
    return manifest, tensors


def section(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with `prefix` and a dot, without both."""
    return {
        name.removeprefix(f"{prefix}."): t
        for name, t in tensors.items()
        if name.startswith(f"{prefix}.")
    }


def write_json(path: Path, data: Any) -> None:
    """Writes indented JSON under a temporary name and renames it."""
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.write_text(json.dumps(data, indent=2) + "\n")
    os.replace(temporary, path)
