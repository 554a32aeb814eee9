"""Co3Dv2: a folder a category with `frame_annotations.jgz`, `sequence_annotations.jgz` and
`set_lists/`."""

from __future__ import annotations

import gzip
import json
import zlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from model.progress import track
from model.scene.geometry import pytorch3d_to_opencv
from scenes.readers.depth_map import DepthMap, read_float16_png
from scenes.readers.recording import (
    Frame,
    RecordedScenes,
    Recording,
    UnusableSceneError,
    require_folder,
)
from scenes.readers.resizing import Array

# fmt: off
CATEGORIES = (
    "apple", "backpack", "banana", "baseballbat", "baseballglove", "bench", "bicycle", "bottle",
    "bowl", "broccoli", "cake", "car", "carrot", "cellphone", "chair", "cup", "donut", "hairdryer",
    "handbag", "hydrant", "keyboard", "laptop", "microwave", "motorcycle", "mouse", "orange",
    "parkingmeter", "pizza", "plant", "stopsign", "teddybear", "toaster", "toilet", "toybus",
    "toyplane", "toytrain", "toytruck", "tv", "umbrella", "vase", "wineglass",
)
# fmt: on
"""The categories of the published pose protocol."""

SPLITS = ("train", "test")
FRAMES, SEQUENCES = "frame_annotations.jgz", "sequence_annotations.jgz"
SET_LIST = "set_lists/set_lists_fewview_dev.json"

MIN_QUALITY = 0.5
MIN_FRAMES = 50
FARTHEST = 1e5  # a camera with tx + ty + tz beyond this is a failure of the reconstruction


def read_co3d(
    root: Path,
    *,
    split: str = "test",
    views: int | None = 10,
    seed: int = 0,
    categories: Sequence[str] = CATEGORIES,
    min_frames: int = MIN_FRAMES,
    image_size: int,
    patch_size: int,
) -> RecordedScenes:
    """One scene a sequence that the published filters let pass, `views` frames drawn at random
    (None: all).

    Filters: viewpoint quality above 0.5, at least `min_frames` frames in the split, none of whose
    cameras is beyond `FARTHEST`. What a filter takes out, and every category that is not there, is
    named in `skipped`. The draw of a sequence depends on `seed` and its name alone, so that no
    other scene can change it. All annotations are read now, pictures later. Raises ValueError for
    an unknown split or category and for damaged files.
    """
    require_folder(root)
    unknown = sorted(set(categories) - set(CATEGORIES))
    if split not in SPLITS or unknown:
        raise ValueError(
            f"split {split!r}, unknown categories {unknown}; Co3Dv2 has the splits "
            f"{', '.join(SPLITS)} and the "
            f"categories {', '.join(CATEGORIES)}"
        )
    if not any((root / category / FRAMES).is_file() for category in categories):
        raise ValueError(
            f"{root}: holds no category of Co3Dv2; expected, for example, "
            f"{root / categories[0] / FRAMES}"
        )
    recordings: list[Recording] = []
    skipped: list[tuple[str, str]] = []
    for category in track(categories, "annotations"):
        absent = [
            name for name in (FRAMES, SEQUENCES, SET_LIST) if not (root / category / name).is_file()
        ]
        if absent:
            skipped.append((category, f"no {', '.join(absent)}"))
            continue
        quality = {entry["sequence_name"]: entry for entry in _read(root / category / SEQUENCES)}
        for sequence, entries in sorted(_listed_frames(root / category, split).items()):
            name = f"{category}/{sequence}"
            try:
                _check_quality(quality.get(sequence, {}).get("viewpoint_quality_score"))
                _check_frames(entries, min_frames)
                frames = tuple(_frame(root, entry) for entry in _draw(entries, views, seed, name))
            except UnusableSceneError as reason:
                skipped.append((name, str(reason)))
            except (KeyError, TypeError) as error:
                raise ValueError(
                    f"{root / category / FRAMES}: a frame of {name} is incomplete: {error!r}"
                ) from error
            else:
                recordings.append(Recording(name, category, split, frames))
    return RecordedScenes(
        tuple(recordings), tuple(skipped), image_size, patch_size, tuple(categories)
    )


def _read(path: Path) -> Any:
    try:
        if path.suffix == ".jgz":
            with gzip.open(path, "rt", encoding="utf-8") as file:
                return json.load(file)
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise ValueError(f"{path}: not a readable annotation file: {error}") from error


def _listed_frames(folder: Path, split: str) -> dict[str, list[Mapping[str, Any]]]:
    """Annotations of the frames that the set list puts into the split, by sequence, in the list's
    order."""
    annotations = {
        (entry["sequence_name"], entry["frame_number"]): entry for entry in _read(folder / FRAMES)
    }
    listed = _read(folder / SET_LIST)
    if split not in listed:
        raise ValueError(f"{folder / SET_LIST}: no split {split!r}; it has {', '.join(listed)}")
    frames: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for sequence, number, path in listed[split]:
        if (sequence, number) not in annotations:
            raise ValueError(f"{folder / SET_LIST} lists {path}, which {FRAMES} does not describe")
        frames[sequence].append(annotations[sequence, number])
    return frames


def _check_quality(score: float | None) -> None:
    if score is None or not score > MIN_QUALITY:
        raise UnusableSceneError(f"viewpoint quality is {score}; more than {MIN_QUALITY} is needed")


def _check_frames(entries: Sequence[Mapping[str, Any]], min_frames: int) -> None:
    if len(entries) < max(min_frames, 1):
        raise UnusableSceneError(f"{len(entries)} frames; {max(min_frames, 1)} are needed")
    for entry in entries:
        if sum(entry["viewpoint"]["T"]) > FARTHEST:
            raise UnusableSceneError(
                f"the camera of frame {entry['frame_number']} lies beyond {FARTHEST:g}"
            )


def _draw(
    entries: Sequence[Mapping[str, Any]], views: int | None, seed: int, name: str
) -> Sequence[Mapping[str, Any]]:
    if views is None:
        return entries
    if len(entries) < views:
        raise UnusableSceneError(f"{len(entries)} frames; {views} are needed")
    generator = np.random.default_rng([seed, zlib.crc32(name.encode())])
    return [entries[i] for i in generator.choice(len(entries), views, replace=False)]


def _frame(root: Path, entry: Mapping[str, Any]) -> Frame:
    picture = root / entry["image"]["path"]
    if not picture.is_file():
        raise UnusableSceneError(f"no picture {entry['image']['path']}")
    viewpoint, (height, width) = entry["viewpoint"], entry["image"]["size"]
    rotation, translation = (
        torch.tensor(viewpoint[key], dtype=torch.float64) for key in ("R", "T")
    )
    extrinsic = pytorch3d_to_opencv(rotation, translation).numpy()
    depth = entry.get("depth")
    reader = None
    if depth and (root / depth["path"]).is_file():
        mask = depth.get("mask_path")
        reader = partial(
            _read_depth,
            root / depth["path"],
            depth["scale_adjustment"],
            root / mask if mask else None,
        )
    return Frame(
        picture, extrinsic, _intrinsic(picture, viewpoint, height, width), (height, width), reader
    )


def _intrinsic(picture: Path, viewpoint: Mapping[str, Any], height: int, width: int) -> Array:
    """Pixels from PyTorch3D's normalised coordinates, whose axes point left and up from the image
    centre."""
    half = np.array([width, height]) / 2
    unit = {"ndc_isotropic": half.min(), "ndc_norm_image_bounds": half}.get(
        viewpoint["intrinsics_format"].lower()
    )
    if unit is None:
        raise ValueError(
            f"{picture}: intrinsics_format is {viewpoint['intrinsics_format']!r}; "
            "expected ndc_isotropic or ndc_norm_image_bounds"
        )
    (fx, fy), (left, up) = (
        unit * np.array(viewpoint[key]) for key in ("focal_length", "principal_point")
    )
    cx, cy = half - (left, up)
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])


def _read_depth(path: Path, scale: float, mask_path: Path | None) -> DepthMap:
    depth = read_float16_png(path) * np.float32(scale)
    if mask_path is None:
        return depth
    if not mask_path.is_file():
        raise ValueError(f"{mask_path}: no such mask; it says where the depth is valid")
    with Image.open(mask_path) as picture:
        mask = np.array(picture.convert("L")) > 0
    if mask.shape != depth.shape:
        raise ValueError(
            f"{mask_path} is {mask.shape[1]}x{mask.shape[0]} pixels; its depth {depth.shape[::-1]}"
        )
    return np.where(mask, depth, np.float32(0))
