"""What an artifact must hold to be served, and what tells it from others."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model import families
from model.errors import ArtifactError
from model.files.artifact import configuration
from model.network.config import NetworkConfig
from service.result.document import ModelDocument
from service.settings import SettingsError


def served_configuration(manifest: Mapping[str, Any], artifact: Path) -> NetworkConfig:
    """Of an artifact whose network has the heads that every answer needs. Raises ArtifactError."""
    config = configuration(manifest)
    needed = {"depth"} if families.of(config).single_pictures(config) else {"camera", "depth"}
    missing = needed - set(config.heads)
    if missing:
        raise ArtifactError(
            f"{artifact} holds a network without {' and '.join(sorted(missing))} head; quantise a "
            "checkpoint with both"
        )
    return config


def digest_of(artifact: Path) -> str:
    """SHA-256 of the manifest; it holds the checksum of every tensor, so it stands for the whole
    artifact."""
    return "sha256:" + hashlib.sha256((artifact / "manifest.json").read_bytes()).hexdigest()


def check_commercial(model: ModelDocument) -> None:
    """Raises SettingsError if the licence of the weights is not known to allow commercial use."""
    if model.commercial_use:
        return
    allowed, otherwise = "does not allow", ""
    if model.commercial_use is None:
        allowed = "is not known to allow"
        otherwise = (
            "; if it is a copy of public weights, quantise it with --weights-licence and the name "
            "of their hub repository"
        )
    raise SettingsError(
        f"weights for commercial use are required; the licence of {model.name}, "
        f"{model.weights_licence or 'which is not known'}, {allowed} it: serve another "
        f"artifact, or leave out --require-commercial{otherwise}."
    )
