"""What fewer attention keys, and passes over a part of the frames, cost in accuracy: walks through
synthetic rooms, there and back on an arc of `--arc` degrees.

    python -m benchmarks.keys [--model build/demo/artifact] [--views 32] [--scenes 30] [--json FILE]

Every way runs on the same scenes as exact attention in one pass: each factor of
`model.network.keys` in one pass, and where there are more views than `--chunk` chunks that share
`--shared` of them, a quarter of the patches each, loops left open and closed. AUC@30, the error of
camera centres relative to their spread, and AbsRel of depth; the change against exact with a paired
95 % bootstrap interval over scenes; and how far depth moves (median over pixels of |log ratio|).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.averaged_keys import averaged
from benchmarks.loops import batch_of, camera_errors, in_chunks, run
from benchmarks.timing import machine, write
from evaluation.bootstrap import interval, mean_over_scenes
from evaluation.depth_metrics import depth_errors
from model import families
from model.files.artifact import load
from model.files.checkpoint import load_checkpoint
from model.files.manifest import MANIFEST
from model.network.keys import FACTORS, kept_tokens
from model.network.network import Network
from model.progress import track
from model.scene.chunking import chunk_frames
from model.scene.reconstruction import Reconstruction
from scenes.scene import Scene
from scenes.synthetic.walk import there_and_back

EXACT = "exact"
MEASURES = ("auc_30", "centre_error", "abs_rel")
_OF_CHUNKS = 4  # the factor that a pass of three times the usual budget's frames gets


@dataclass(frozen=True)
class Passes:
    """Frames of a chunk, and how many of them it shares with the one before."""

    chunk: int
    shared: int


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--model", default="demo", help="checkpoint or artifact (default the bundled demo model)"
    )
    parser.add_argument(
        "--views", type=int, nargs="+", default=[32], help="numbers of frames of a walk"
    )
    parser.add_argument(
        "--arc", type=float, default=160.0, help="degrees; 32 views of standard scenes span 160"
    )
    parser.add_argument("--scenes", type=int, default=30)
    parser.add_argument(
        "--seed", type=int, default=1000, help="of the first scene of the test split"
    )
    parser.add_argument("--factors", type=int, nargs="+", choices=FACTORS, default=FACTORS[1:])
    parser.add_argument("--chunk", type=int, default=96, help="frames of a pass of several")
    parser.add_argument("--shared", type=int, default=32, help="frames that two chunks share")
    parser.add_argument(
        "--averaged", action="store_true", help="with keys averaged over cells beside each factor"
    )
    parser.add_argument("--attention", choices=("float", "int8"), help="other arithmetic")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    args = parser.parse_args()
    torch.set_grad_enabled(False)
    torch.set_num_threads(1)
    net = load(args.model) if Path(args.model, MANIFEST).exists() else load_checkpoint(args.model)
    if args.attention:
        net.attention = args.attention
    report: dict[str, Any] = {
        "machine": machine(),
        "model": args.model,
        "attention": net.attention,
        "scenes": args.scenes,
        "seed": args.seed,
        "arc": args.arc,
        "passes": vars(Passes(args.chunk, args.shared)),
        "views": {},
    }
    seeds = range(args.seed, args.seed + args.scenes)
    for views in args.views:
        report["views"][views] = compare(
            net,
            views,
            args.arc,
            seeds,
            args.factors,
            Passes(args.chunk, args.shared),
            args.averaged,
        )
        write(args.json, report)
    return 0


def compare(
    net: Network,
    views: int,
    arc: float,
    seeds: range,
    factors: list[int],
    passes: Passes,
    with_means: bool,
) -> dict[str, dict[str, Any]]:
    """Figures of each way, exact attention first; prints them."""
    scores: dict[str, list[dict[str, float]]] = {}
    for seed in track(seeds, f"{views} views"):
        side = families.of(net.config).grid(net.config).longer_side
        scene = there_and_back(seed, views, arc, side)
        exact: Reconstruction | None = None
        for name, found in _ways(net, scene, factors, passes, with_means):
            exact = found if exact is None else exact
            scores.setdefault(name, []).append(_score(found, exact, scene))
    figures = {name: _summary(own, scores[EXACT]) for name, own in scores.items()}
    for name, figure in figures.items():
        print(f"{views:4} views, {name:24} {figure}", flush=True)
    return figures


def _ways(
    net: Network, scene: Scene, factors: list[int], passes: Passes, with_means: bool
) -> Iterator[tuple[str, Reconstruction]]:
    batch = batch_of(scene)
    views = len(scene.images)
    yield EXACT, run(net, batch)
    for factor in factors:
        yield f"1 of {factor}", run(net, batch, _budget(net, factor, views))
        if with_means:
            family, grid = families.of(net.config), _grid(net)
            with averaged(net, factor, views, grid, family.special_tokens(net.config)):
                yield f"mean of {factor}", run(net, batch)
    if views > passes.chunk:
        chunks = chunk_frames(views, passes.chunk, passes.shared)
        found = in_chunks(net, batch, chunks, _budget(net, _OF_CHUNKS, passes.chunk))
        yield "chunks, open", found.open
        yield "chunks, closed", found.closed


def _budget(net: Network, factor: int, frames: int) -> int:
    """What is just enough for the factor, and too small for the one before."""
    special = families.of(net.config).special_tokens(net.config)
    return len(kept_tokens(factor, frames, *_grid(net), special)) + 1


def _grid(net: Network) -> tuple[int, int]:
    grid = families.of(net.config).grid(net.config)
    return (grid.longer_side // grid.patch_size,) * 2


def _score(found: Reconstruction, exact: Reconstruction, scene: Scene) -> dict[str, float]:
    assert scene.depth is not None
    centre, _, auc = camera_errors(found.extrinsics, scene.extrinsics)
    return {
        "auc_30": auc,
        "centre_error": centre,
        "abs_rel": depth_errors(found.depth, scene.depth).abs_rel,
        "depth_moved": float((found.depth / exact.depth).log().abs().median()),
    }


def _summary(own: list[dict[str, float]], exact: list[dict[str, float]]) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for measure in MEASURES:
        values = [score[measure] for score in own]
        changes = [a - b[measure] for a, b in zip(values, exact, strict=True)]
        figures[measure] = _interval(values)
        figures[f"{measure}_change"] = _interval(changes)
    figures["depth_moved"] = round(sum(score["depth_moved"] for score in own) / len(own), 4)
    return figures


def _interval(values: list[float]) -> list[float]:
    """The mean over scenes and its 95 % bootstrap interval."""
    found = interval(mean_over_scenes(values), len(values))
    return [round(value, 3) for value in (found.value, found.low, found.high)]


if __name__ == "__main__":
    raise SystemExit(main())
