"""An artifact's `manifest.json`, which says everything about it but the weights. Reading it needs
no torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from model.errors import ArtifactError

FORMAT = "quantvggt-artifact"
VERSION = 3
_VERSIONS = (2, VERSION)  # version 2 has no layers for 8-bit activations
MANIFEST = "manifest.json"
TENSORS = "model.safetensors"
_KEYS = {
    "format",
    "version",
    "packing",
    "family",
    "network",
    "domain",
    "execution",
    "layers",
    "recipe",
    "calibration",
    "provenance",
    "files",
}
_LATER_KEYS = {"family", "domain"}  # the first artifacts have neither


def read(path: str | Path) -> dict[str, Any]:
    """The manifest of the artifact at `path`, with every key but perhaps "family" and
    "domain". Raises ArtifactError."""
    folder = Path(path)
    file = folder / MANIFEST
    if not folder.is_dir():
        raise ArtifactError(f"no artifact at {folder}: not a folder")
    if not file.is_file():
        raise ArtifactError(f"{folder} is not an artifact: it has no {MANIFEST}")
    try:
        manifest = json.loads(file.read_text())
    except (ValueError, OSError) as error:
        raise ArtifactError(f"{file} is damaged: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ArtifactError(
            f"{file} does not describe an artifact of this project (format is not {FORMAT!r})"
        )
    version = manifest.get("version")
    if version not in _VERSIONS:
        newer = isinstance(version, int) and version > VERSION
        advice = "upgrade this software" if newer else "quantise the checkpoint again"
        raise ArtifactError(
            f"{file} has format version {version!r}; this software reads versions "
            f"{' and '.join(map(str, _VERSIONS))}: "
            f"{advice}"
        )
    if set(manifest) | _LATER_KEYS != _KEYS:
        odd = ", ".join(sorted((set(manifest) | _LATER_KEYS) ^ _KEYS))
        raise ArtifactError(f"{file} is damaged: missing or unknown keys: {odd}")
    return manifest
