"""What a network is calibrated on: candidates from scenes or plain photographs, and the ones that
sampling picks."""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from model import families
from model.errors import ImageError
from model.families.family import Grid
from model.network.config import NetworkConfig
from model.progress import track
from model.scene.pictures import SUFFIXES, SYSTEM_FOLDERS
from model.scene.preprocess import preprocess_images
from quantization.calibration.stages import Read, Stream, Walk
from quantization.nfds import Features, frame_similarity, select
from scenes.readers.co3d import read_co3d
from scenes.readers.recording import RecordedScenes
from scenes.readers.seven_scenes import read_seven_scenes
from scenes.synthetic.generator import SyntheticScenes

SYNTHETIC = "synthetic"
READERS: dict[str, Callable[..., RecordedScenes]] = {
    "co3d": read_co3d,
    "7scenes": read_seven_scenes,
}
"""Data sets that have a split of their own for training, which is the one that calibration
reads."""
SAMPLINGS = {
    "nfds": (True, True),
    "filter": (True, False),
    "cluster": (False, True),
    "random": (False, False),
}
"""Which stages of the sampling run: the noise filter and the clusters."""


@dataclass(frozen=True)
class Sample:
    """Frames `images` `[S, 3, H, W]` in [0, 1] of one scene; `name` tells which frames."""

    name: str
    scene: str
    category: str
    images: Tensor


@dataclass(frozen=True)
class CalibrationSet:
    """The chosen samples and what the manifest says about them."""

    samples: tuple[Sample, ...]
    facts: dict[str, Any]

    @property
    def images(self) -> list[Tensor]:
        return [sample.images for sample in self.samples]


def candidates(
    source: str, grid: Grid, *, frames: int, pool: int, seed: int, data: Path | None = None
) -> tuple[list[Sample], str]:
    """About `pool` samples of `frames` frames and the name of their split.

    `source` is "synthetic" (the calibration split of the procedural scenes), one of `READERS` with
    its folder `data`, or a folder of photographs: one folder a scene, at any depth, or the pictures
    of a single scene. Raises ValueError.
    """
    if data is not None and source not in READERS:
        raise ValueError(f"--data has no meaning for --calibration {source}; leave it out")
    if frames < 2:
        raise ValueError(
            f"a calibration sample of {frames} frame has nothing to compare; expected at least 2 "
            "frames"
        )
    if source == SYNTHETIC:
        scenes = SyntheticScenes(
            "calibration", pool, frames, grid.longer_side, grid.longer_side, seed=seed
        )
        return [
            Sample(s.name, s.name, s.category, s.images) for s in track(scenes, "rendering scenes")
        ], scenes.split
    if source in READERS:
        if data is None:
            raise ValueError(
                f"--calibration {source} needs --data PATH, the folder of the unpacked data set"
            )
        recorded = READERS[source](
            data,
            split="train",
            views=frames,
            image_size=grid.longer_side,
            patch_size=grid.patch_size,
        ).spread(pool)
        if not len(recorded):
            raise ValueError(f"{data} holds no scene of {frames} frames in its training split")
        return [
            Sample(s.name, s.name, s.category, s.images) for s in track(recorded, "reading scenes")
        ], "train"
    folder = Path(source).expanduser()
    if not folder.is_dir():
        raise ValueError(
            f"--calibration {source}: neither {SYNTHETIC}, {', '.join(READERS)}, nor a folder of "
            "photographs"
        )
    return _photographs(folder, grid, frames, pool, seed), "photographs"


def choose(
    source: str,
    config: NetworkConfig,
    read: Read,
    *,
    samples: int,
    frames: int,
    pool: int,
    sampling: str,
    seed: int,
    data: Path | None = None,
    device: str | torch.device = "cpu",
) -> CalibrationSet:
    """`samples` samples out of a pool of `pool`, by one of `SAMPLINGS`. Raises ValueError."""
    if samples < 1:
        raise ValueError(f"--samples is {samples}; expected at least 1")
    grid = families.of(config).grid(config)
    found, split = candidates(
        source, grid, frames=frames, pool=max(pool, samples), seed=seed, data=data
    )
    if len(found) < samples:
        raise ValueError(
            f"{source} gives {len(found)} calibration samples of {frames} frames, {samples} were "
            "asked for: add scenes "
            f"or pictures, or ask for less with --samples or --frames"
        )
    noise, diverse = SAMPLINGS[sampling]
    if noise or diverse:
        chosen = select(
            describe(config, read, found, device), samples, seed=seed, noise=noise, diverse=diverse
        )
    else:
        chosen = sorted(np.random.default_rng(seed).permutation(len(found))[:samples].tolist())
    kept = tuple(found[i] for i in chosen)
    digest = hashlib.sha256()
    for sample in kept:
        digest.update(sample.images.numpy().tobytes())
    facts = {
        "source": source
        if source == SYNTHETIC or source in READERS
        else Path(source).resolve().name,
        "split": split,
        "scenes": sorted({sample.scene for sample in kept}),
        "samples": [sample.name for sample in kept],
        "pixels_sha256": digest.hexdigest(),
        "frames": frames,
        "candidates": len(found),
        "sampling": sampling,
        "seed": seed,
    }
    return CalibrationSet(kept, facts)


@torch.no_grad()
def describe(
    config: NetworkConfig, read: Read, found: Sequence[Sample], device: str | torch.device = "cpu"
) -> Features:
    """Features of the candidates from one pass of the float network, block by block.

    Moments are those of all tokens that enter the deep stages; similarity is the last blocks'.
    """
    walk = Walk(config.with_heads(()), read, [sample.images for sample in found], device)
    stream = Stream(walk)
    means: list[list[float]] = [[] for _ in found]
    deviations: list[list[float]] = [[] for _ in found]
    for stage in track(walk.stages, f"looking at {len(found)} candidates, block"):
        stream.enter(stage)
        if stage in walk.steps.deep:
            for i, tokens in enumerate(stream.tokens):
                deviation, mean = torch.std_mean(tokens.double())
                means[i].append(float(mean))
                deviations[i].append(float(deviation))
        module = walk.fill_stage(stage)
        stream.advance(stage, module)
        module.to("meta")
    special = walk.family.special_tokens(config)
    similarity = [frame_similarity(stream.features(i), special).cpu() for i in range(len(found))]
    return Features(
        torch.stack(similarity),
        torch.tensor(means),
        torch.tensor(deviations),
        tuple(s.category for s in found),
    )


def _photographs(folder: Path, grid: Grid, frames: int, pool: int, seed: int) -> list[Sample]:
    """Random frames of every scene, disjoint as long as its pictures last, the same number from
    each scene."""
    own = _pictures(folder)
    scenes = {folder.resolve().name: own} if own else _scenes(folder)
    usable = {name: pictures for name, pictures in scenes.items() if len(pictures) >= frames}
    if not usable:
        raise ValueError(
            f"{folder} holds no scene of {frames} pictures ({', '.join(SUFFIXES)}); put the "
            "pictures of one scene into "
            "the folder, or of several scenes into a folder each"
        )
    draws = -(-pool // len(usable))
    planned = []
    for name, pictures in usable.items():
        random = np.random.default_rng([seed, zlib.crc32(name.encode())])
        groups: dict[frozenset[int], tuple[int, ...]] = {}
        for _ in range(draws):  # whole passes, so the number of passes is bounded
            order = random.permutation(len(pictures))
            for start in range(0, len(order) - frames + 1, frames):
                group = tuple(int(i) for i in order[start : start + frames])
                groups.setdefault(frozenset(group), group)
        planned += [(name, [pictures[i] for i in group]) for group in list(groups.values())[:draws]]
    found = []
    for name, chosen in track(planned, "reading photographs"):
        try:
            images = preprocess_images(chosen, "fit", grid.longer_side, grid.patch_size).images
        except ImageError as error:
            raise ValueError(
                f"{chosen[error.index or 0]}: {error}; remove it or replace it"
            ) from error
        title = "+".join(path.name for path in chosen)
        found.append(Sample(f"{name}/{title}", name, "photographs", images))
    return found


def _scenes(folder: Path) -> dict[str, list[Path]]:
    """The pictures of every folder below `folder`, at any depth, by its path from there."""
    found = {}
    for path, folders, _ in os.walk(folder, followlinks=True):
        here = Path(path)
        above = (here.resolve(), *here.resolve().parents)  # a link to one of them has no end
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".")
            and name not in SYSTEM_FOLDERS
            and (here / name).resolve() not in above
        )
        pictures = _pictures(here)
        if pictures and here != folder:
            found[here.relative_to(folder).as_posix()] = pictures
    return found


def _pictures(folder: Path) -> list[Path]:
    """Its pictures in order of their names, without hidden files such as macOS leaves beside them
    on other disks."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and not path.is_dir()
    )
