"""A network as its artifact describes it, what it must have to be served, and what tells it from
others."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model import families
from model.errors import ArtifactError
from model.families.family import Grid
from model.files.artifact import configuration, read_manifest
from model.network.config import NetworkConfig
from service.errors import InvalidOption, NoTracks
from service.result.document import ModelDocument, Unit
from service.settings import SettingsError


class ServedNetwork:
    """What an artifact's manifest says about its network, before any weights are read. Raises
    ArtifactError."""

    def __init__(self, artifact: Path) -> None:
        self.artifact = artifact
        self.manifest = read_manifest(artifact)
        self.config = _configuration(self.manifest, artifact)
        self.family = families.of(self.config)
        self.digest = _digest(artifact)
        self.grid: Grid = self.family.grid(self.config)
        """What pictures are brought onto."""

    @property
    def image_size(self) -> int:
        """Longer side of the network's input in pixels."""
        return self.grid.longer_side

    @property
    def patch_size(self) -> int:
        """Side of a patch in pixels."""
        return self.grid.patch_size

    @property
    def heads(self) -> tuple[str, ...]:
        """Heads of the network: camera and depth, perhaps point and track."""
        return self.config.heads

    @property
    def unit(self) -> Unit:
        """Of the lengths that the network predicts."""
        return self.family.scale(self.config)

    @property
    def single_pictures(self) -> bool:
        """Whether the network takes one picture, and does not predict its focal length."""
        return self.family.single_pictures(self.config)

    @property
    def takes_cameras(self) -> bool:
        """Whether the network can be told the cameras of its pictures."""
        return self.family.takes_cameras(self.config)

    def check_tracks(self, height: int, width: int) -> None:
        """Raises NoTracks without a track head, InvalidOption if it can't follow points in so few
        network pixels."""
        if "track" not in self.heads:
            raise NoTracks(
                f"This model has no track head; it has {', '.join(self.heads)}.",
                heads=list(self.heads),
            )
        least = self.family.least_tracked_side(self.config)
        if min(height, width) < least:
            raise InvalidOption(
                f"Points can't be followed in pictures of {width} x {height} network pixels; this "
                "model's tracker "
                f"needs {least} a side. Leave query_points out, or send less thin pictures.",
                option="query_points",
            )


def check_commercial(model: ModelDocument) -> None:
    """Raises SettingsError if the licence of the weights is not known to allow commercial use."""
    if model.commercial_use:
        return
    allows = "does not allow it" if model.commercial_use is False else "is not known to allow it"
    found = f", {model.weights_licence}, {allows}" if model.weights_licence else " is not known"
    copied = (
        "; if it is a copy of public weights, quantise it with --weights-licence and the name of "
        "their hub repository"
    )
    raise SettingsError(
        f"weights for commercial use are required; the licence of {model.name}{found}: serve "
        "another artifact, or leave out --require-commercial"
        f"{'' if model.commercial_use is False else copied}."
    )


def _configuration(manifest: Mapping[str, Any], artifact: Path) -> NetworkConfig:
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


def _digest(artifact: Path) -> str:
    """SHA-256 of the manifest; it holds the checksum of every tensor, so it stands for the whole
    artifact."""
    return "sha256:" + hashlib.sha256((artifact / "manifest.json").read_bytes()).hexdigest()
