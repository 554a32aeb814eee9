"""The scenes that an evaluation runs over, from the command's options."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from model.families.family import Grid
from scenes.readers.co3d import CATEGORIES, read_co3d
from scenes.readers.colmap import read_colmap
from scenes.readers.dtu import read_dtu
from scenes.readers.folder import read_folder
from scenes.readers.nrgbd import read_nrgbd
from scenes.readers.recording import RecordedScenes
from scenes.readers.seven_scenes import read_seven_scenes
from scenes.scene import Scene
from scenes.synthetic.generator import SyntheticScenes

SPLIT = "test"
SYNTHETIC = "synthetic"
SYNTHETIC_SCENES = 200
READERS: Mapping[str, Callable[..., RecordedScenes]] = {
    "co3d": read_co3d,
    "dtu": read_dtu,
    "7scenes": read_seven_scenes,
    "nrgbd": read_nrgbd,
    "colmap": read_colmap,
    "folder": read_folder,
}


@dataclass(frozen=True)
class Opened:
    """Scenes, what the report says about them, and what is missing from them (arguments of
    `evaluate`)."""

    scenes: Iterable[Scene]
    facts: Mapping[str, Any]
    expected_categories: tuple[str, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()


def check(args: argparse.Namespace) -> None:
    """Raises ValueError for options that do not go together; cheap, so it comes before a model is
    loaded."""
    if args.seed < 0:
        raise ValueError(f"--seed is {args.seed}; expected at least 0")
    if args.scenes is not None and args.scenes < 1:
        raise ValueError(f"--scenes is {args.scenes}; expected at least 1")
    if min(args.views) < 2:
        raise ValueError(f"--views is {args.views}; a relative pose needs at least 2")
    recorded = args.dataset != SYNTHETIC
    for option, given, wanted in (
        ("--data", args.data, recorded),
        ("--size", args.size, not recorded),
        ("--categories", args.categories, args.dataset == "co3d"),
    ):
        if given is not None and not wanted:
            raise ValueError(f"{option} has no meaning for --dataset {args.dataset}; leave it out")
    if recorded and args.data is None:
        raise ValueError(
            f"--dataset {args.dataset} needs --data PATH, the folder that the data set was "
            "unpacked into"
        )
    if recorded and not args.data.is_dir():
        raise ValueError(f"--data {args.data}: no such folder")


def open_scenes(args: argparse.Namespace, views: int, grid: Grid) -> Opened:
    """Scenes of `views` frames on the grid of a network. Raises ValueError where they do not fit it
    or are damaged."""
    side, patch = grid.longer_side, grid.patch_size
    if args.dataset == SYNTHETIC:
        height, width = args.size or (side, side)
        if height < patch or width < patch or height % patch or width % patch:
            raise ValueError(
                f"--size {height} {width} does not fit this network: both must be multiples of "
                f"{patch}"
            )
        count = args.scenes or SYNTHETIC_SCENES
        rooms = SyntheticScenes(SPLIT, count, views, height, width, seed=args.seed)
        return Opened(
            rooms,
            {"distribution": asdict(rooms.distribution), "size": [height, width], "scenes": count},
        )
    options: dict[str, Any] = {"views": views, "image_size": side, "patch_size": patch}
    if args.dataset == "co3d":
        options |= {"seed": args.seed, "categories": args.categories or CATEGORIES}
    recorded = READERS[args.dataset](args.data, **options)
    if args.scenes is not None:
        recorded = recorded.first(args.scenes)
    facts = {
        "data": args.data.resolve().name,
        "longer_side": side,
        "scenes_per_category": args.scenes,
    }
    return Opened(recorded, facts, recorded.expected_categories, recorded.skipped)
