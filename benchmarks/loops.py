"""Camera errors of long scenes run in chunks, loops left open and loops closed, on walks round
synthetic rooms.

    python -m benchmarks.loops [--model build/demo/artifact] [--scenes 32] [--json FILE]
    python -m benchmarks.loops --descriptors

The second compares ways to find candidates among the frames of distant chunks: how often the best
match looks the same way, and average precision over all pairs. Errors of centres are relative to
their spread, after the similarity that aligns all cameras; 95 % bootstrap intervals over scenes.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.timing import machine, write
from evaluation.bootstrap import interval, mean_over_scenes
from evaluation.pose_metrics import pose_auc, relative_pose_errors
from model import families
from model.files.artifact import load
from model.files.checkpoint import load_checkpoint
from model.files.manifest import MANIFEST
from model.network.descriptor import described
from model.network.network import Network
from model.progress import track
from model.reconstruct import decode
from model.rotations import rotation_angle
from model.scene.chunking import chunk_frames, join, place, take
from model.scene.loops import close_loops, find_loops, measure
from model.scene.preprocess import ImageTransform, PreprocessedImages
from model.scene.reconstruction import Reconstruction
from model.scene.similarity import camera_centres, fit_cameras
from scenes.scene import Scene
from scenes.synthetic.walk import walk

MEASURES = ("centre error", "rotation, degrees", "AUC@30")
SAME_PLACE_DEGREES = 20.0


@dataclass(frozen=True)
class Setting:
    """Frames of a walk, frames to a turn of 360 degrees, frames of a pass."""

    frames: int
    lap: int
    size: int


SETTINGS = {
    "a lap and a quarter": Setting(40, 32, 8),
    "two laps": Setting(64, 32, 8),
    "one lap, passes of 12": Setting(64, 64, 12),
    "a lap and a quarter, passes of 4": Setting(40, 32, 4),
    "225 degrees, nothing to close": Setting(40, 64, 8),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--model", default="demo", help="checkpoint or artifact (default the bundled demo model)"
    )
    parser.add_argument("--scenes", type=int, default=32)
    parser.add_argument(
        "--seed", type=int, default=1000, help="of the first scene of the test split"
    )
    parser.add_argument("--descriptors", action="store_true", help="compare descriptors instead")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    args = parser.parse_args()
    torch.set_grad_enabled(False)
    torch.set_num_threads(1)
    net = load(args.model) if Path(args.model, MANIFEST).exists() else load_checkpoint(args.model)
    seeds = range(args.seed, args.seed + args.scenes)
    report: dict[str, Any] = {
        "machine": machine(),
        "model": args.model,
        "scenes": args.scenes,
        "seed": args.seed,
    }
    if args.descriptors:
        report["descriptors"] = compare_descriptors(net, seeds)
    else:
        report["settings"] = {
            name: compare(net, name, setting, seeds) for name, setting in SETTINGS.items()
        }
    write(args.json, report)
    return 0


def compare(net: Network, name: str, setting: Setting, seeds: range) -> dict[str, Any]:
    """Errors of every scene of one setting, open and closed; prints their means."""
    chunks = chunk_frames(setting.frames, setting.size, max(1, setting.size // 3))
    rows: dict[str, list[tuple[float, ...]]] = {"open": [], "closed": []}
    candidates = closed = 0
    for seed in track(seeds, name):
        scene = walk(
            seed, setting.frames, setting.lap, families.of(net.config).grid(net.config).longer_side
        )
        found = in_chunks(net, batch_of(scene), chunks)
        candidates += found.candidates
        closed += found.loops
        for kind, joined in (("open", found.open), ("closed", found.closed)):
            rows[kind].append(camera_errors(joined.extrinsics, scene.extrinsics))
    count = len(seeds)
    print(
        f"{name}: {len(chunks)} chunks; {candidates / count:.2f} extra passes and "
        f"{closed / count:.2f} loops a scene"
    )
    result: dict[str, Any] = {
        "chunks": len(chunks),
        "candidates": candidates,
        "closed": closed,
        "scenes": rows,
    }
    for column, label in enumerate(MEASURES):
        told = {}
        for kind, values in rows.items():
            own = interval(mean_over_scenes([row[column] for row in values]), count)
            told[kind] = [own.value, own.low, own.high]
        result[label] = told
        texts = [
            f"{kind} {value:.3g} [{low:.3g}, {high:.3g}]"
            for kind, (value, low, high) in told.items()
        ]
        print(f"  {label:20} {'   '.join(texts)}")
    better = sum(b[0] < a[0] for a, b in zip(rows["open"], rows["closed"], strict=True))
    worse = sum(b[0] > a[0] for a, b in zip(rows["open"], rows["closed"], strict=True))
    print(f"  centres better in {better} of {count} scenes, worse in {worse}", flush=True)
    return result


@dataclass(frozen=True)
class InChunks:
    """A scene run in chunks, its loops left open and closed; how many passes looked for loops, and
    how many were found."""

    open: Reconstruction
    closed: Reconstruction
    candidates: int
    loops: int


def in_chunks(
    net: Network,
    batch: PreprocessedImages,
    chunks: Sequence[range],
    attention_keys: int | None = None,
) -> InChunks:
    """A scene in `chunks` of `chunk_frames`; `attention_keys` as a network's `forward` takes it."""
    with described(net) as descriptors:
        parts = [run(net, take(batch, chunk), attention_keys) for chunk in chunks]
    shared = [0] + [before.stop - chunk.start for before, chunk in pairwise(chunks)]
    found = find_loops(
        torch.cat([d[skip:] for d, skip in zip(descriptors, shared, strict=True)]), chunks
    )
    loops = [
        measure(each, run(net, take(batch, each.frames), attention_keys), parts, chunks)
        for each in found
    ]
    places = place(parts, chunks)
    corrected, verdicts = close_loops(places, loops, parts)
    return InChunks(
        join(parts, chunks, places),
        join(parts, chunks, corrected),
        len(found),
        sum(verdict.closed for verdict in verdicts),
    )


def camera_errors(predicted: Tensor, true: Tensor) -> tuple[float, float, float]:
    """One value for each of `MEASURES`."""
    predicted, true = predicted.double(), true.double()
    moved = fit_cameras(predicted, true).move_extrinsics(predicted)
    centres, wanted = camera_centres(moved), camera_centres(true)
    error = (centres - wanted).square().sum().sqrt() / (
        wanted - wanted.mean(0)
    ).square().sum().sqrt()
    rotation = rotation_angle(moved[..., :3], true[..., :3]).mean()
    return float(error), float(rotation), pose_auc(*relative_pose_errors(predicted, true), 30)


def compare_descriptors(net: Network, seeds: range) -> dict[str, dict[str, float]]:
    """For each descriptor: how often its best match looks the same way to `SAME_PLACE_DEGREES`,
    average precision."""
    setting = SETTINGS["a lap and a quarter"]
    first, second = torch.triu_indices(setting.frames, setting.frames, 2 * setting.size)
    totals = {name: {"best match right": 0.0, "average precision": 0.0} for name in DESCRIPTORS}
    for seed in track(seeds, "descriptors"):
        scene = walk(
            seed, setting.frames, setting.lap, families.of(net.config).grid(net.config).longer_side
        )
        with described(net, lambda maps: maps) as found:
            net(scene.images)
        maps = found[0]
        heading = torch.rad2deg(torch.atan2(scene.extrinsics[:, 2, 0], scene.extrinsics[:, 2, 2]))
        same = ((heading[first] - heading[second] + 180) % 360 - 180).abs() < SAME_PLACE_DEGREES
        for name, describe in DESCRIPTORS.items():
            values = describe(maps, scene.images).flatten(1)
            values = F.normalize(values - values.mean(0), dim=-1)
            ranked = same[
                (values[first] * values[second]).sum(-1).argsort(descending=True)
            ].double()
            precision = ranked.cumsum(0) / torch.arange(1, len(ranked) + 1)
            totals[name]["best match right"] += float(ranked[0]) / len(seeds)
            totals[name]["average precision"] += float(
                (precision * ranked).sum() / ranked.sum()
            ) / len(seeds)
    for name, means in totals.items():
        print(f"{name:42}" + "".join(f"  {label} {value:.2f}" for label, value in means.items()))
    return totals


DESCRIPTORS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "encoder tokens, mean of 2 x 2 quarters": lambda maps, images: F.adaptive_avg_pool2d(maps, 2),
    "encoder tokens, mean of 4 x 4 parts": lambda maps, images: F.adaptive_avg_pool2d(maps, 4),
    "encoder tokens, mean": lambda maps, images: F.adaptive_avg_pool2d(maps, 1),
    "encoder tokens, maximum of 2 x 2 quarters": lambda maps, images: F.adaptive_max_pool2d(
        maps, 2
    ),
    "picture of 8 x 8 pixels": lambda maps, images: _standardised(F.adaptive_avg_pool2d(images, 8)),
    "picture of 4 x 4 pixels": lambda maps, images: _standardised(F.adaptive_avg_pool2d(images, 4)),
}


def _standardised(pictures: Tensor) -> Tensor:
    pictures = pictures - pictures.mean((2, 3), keepdim=True)
    return pictures / pictures.std((1, 2, 3), keepdim=True)


def batch_of(scene: Scene) -> PreprocessedImages:
    """A synthetic scene as a pass takes it: its pictures have the network's size already."""
    height, width = scene.images.shape[-2:]
    same = ImageTransform((height, width), (height, width), (1.0, 1.0), (0.0, 0.0))
    return PreprocessedImages(scene.images, (same,) * len(scene.images))


def run(
    net: Network, batch: PreprocessedImages, attention_keys: int | None = None
) -> Reconstruction:
    """One pass."""
    prediction = net(batch.images, attention_keys=attention_keys)
    return decode(net.config, prediction, batch)


if __name__ == "__main__":
    raise SystemExit(main())
