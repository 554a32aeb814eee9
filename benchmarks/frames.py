"""Time and peak memory of a pass over the number of frames: all keys, fewer, and chunks.

    python -m benchmarks.frames --json benchmarks/results/cpu/frames.json
    python -m benchmarks.frames --narrow --json benchmarks/results/cpu/frames_narrow.json

Frames of 518x392 pixels, random weights, W4A4 with 8-bit attention and bfloat16 dense heads. The
network has VGGT-1B's widths and fewer blocks: two in the image encoder, `--pairs` of frame and
global blocks. Blocks of a kind take the same time, so VGGT-1B's 24 of each are extrapolated from
them; so are numbers of frames that are not measured, from the same work of those that are. Peak
memory is that of the process above what it held before, its pictures left out; it does not depend
on the number of blocks. `--narrow` has a quarter of the width and no dense head, which takes the
same time for every frame; hundreds of frames are measured at the usual budget of keys, for the
exponent of seconds over frames.

Every pass runs in a process of its own, on one thread, in processor time. What FILE holds already
is not measured again. Without `--narrow` a figure is written beside FILE.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import nn

from benchmarks.random_network import random_network
from benchmarks.timing import machine, write
from model.families.vggt.config import VGGTConfig
from model.families.vggt.presets import PRESETS
from model.network.config import CameraHeadConfig, VisionTransformerConfig
from model.network.keys import USUAL_BUDGET, KeyPattern, pattern
from model.scene.chunking import chunk_frames
from quantization.recipe import Recipe
from service.inference.memory import PeakMemory

HEIGHT, WIDTH, PATCH, SPECIAL = 392, 518, 14, 5
GRID = (HEIGHT // PATCH, WIDTH // PATCH)
GIBIBYTE = 2**30
CHUNK, SHARED = 96, 32
WAYS = ("all keys", "1 of 4", "usual budget")
IN_CHUNKS = f"chunks of {CHUNK}, {SHARED} shared"
ENCODER_BLOCKS, WHOLE = 2, 24  # measured, and in VGGT-1B; pairs as well
WANTED = (8, 16, 32, 64, 100, 200, 500, 1000)
MEASURED = {
    False: {"all keys": (8, 32), "1 of 4": (32,)},
    True: {"usual budget": (16, 32, 64, 128, 256)},
}
"""Frames of each way, without and with `--narrow`."""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--pairs", type=int, default=2, help="frame and global blocks")
    parser.add_argument("--narrow", action="store_true", help="a quarter of the width")
    parser.add_argument(
        "--also",
        nargs="+",
        default=[],
        metavar="WAY:FRAMES",
        help="measure this too, such as 'all keys:200'",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", required=True)
    parser.add_argument(
        "--one",
        nargs=2,
        metavar=("WAY", "FRAMES"),
        help="measure only this, print it and write no FILE",
    )
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(args.narrow, args.pairs, args.one[0], int(args.one[1]))))
        return 0
    report = json.loads(args.json.read_text()) if args.json.exists() else {"measured": {}}
    report |= {"machine": machine(), "size": [HEIGHT, WIDTH], "pairs": args.pairs}
    points = [(way, n) for way, counts in MEASURED[args.narrow].items() for n in counts]
    points += [(way, int(n)) for way, _, n in (also.rpartition(":") for also in args.also)]
    for way, frames in points:
        name = f"{way}, {frames} frames"
        if name not in report["measured"]:
            command = [sys.executable, "-m", "benchmarks.frames", "--json", str(args.json)]
            command += ["--pairs", str(args.pairs), *(["--narrow"] if args.narrow else [])]
            command += ["--one", way, str(frames)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            report["measured"][name] = json.loads(done.stdout.splitlines()[-1])
            write(args.json, report)
        print(f"{name}: {report['measured'][name]}", flush=True)
    rows = list(report["measured"].values())
    report["bytes_a_frame"] = _slope(rows)
    if args.narrow:
        report["exponent"] = _exponent(rows)
        print(f"exponent of seconds over frames: {report['exponent']}")
    else:
        report["vggt_1b"] = vggt_1b(rows, args.pairs)
        _draw(report["vggt_1b"], args.json.with_suffix(".png"))
    write(args.json, report)
    return 0


def budget_of(way: str, frames: int) -> int | None:
    """`attention_keys` of a pass."""
    patches = GRID[0] * GRID[1]
    just_enough = patches + SPECIAL + (frames - 1) * (patches / 4 + SPECIAL)
    return {"all keys": None, "1 of 4": math.ceil(just_enough), "usual budget": USUAL_BUDGET}[way]


def keys_of(way: str, frames: int) -> KeyPattern:
    """What global blocks look at."""
    return pattern(frames, GRID, SPECIAL, budget_of(way, frames))


def network_config(narrow: bool, pairs: int) -> VGGTConfig:
    """VGGT-1B with fewer blocks, and if `narrow` a quarter as wide; no head that a service never
    reads."""
    config = PRESETS["vggt-1b"].with_heads(("camera", "depth"))
    share = 4 if narrow else 1
    width, heads = config.embed_dim // share, config.num_heads // share
    head = config.depth_head
    assert head is not None
    return replace(
        config,
        embed_dim=width,
        num_heads=heads,
        depth=pairs,
        patch_embed="dino_vit",
        patch_embed_vit=VisionTransformerConfig(
            config.img_size, PATCH, width, ENCODER_BLOCKS, heads
        ),
        camera_head=CameraHeadConfig(num_heads=heads),
        # three levels are held during the last global block, as in VGGT-1B
        depth_head=None if narrow else replace(head, intermediate_layer_idx=(0, 0, 0, pairs - 1)),
    )


def measure(narrow: bool, pairs: int, way: str, frames: int) -> dict[str, Any]:
    """One pass in this process: peak bytes and seconds, by kind of block."""
    torch.set_grad_enabled(False)
    torch.set_num_threads(1)
    net = random_network(Recipe(), network_config(narrow, pairs))
    net.attention, net.dense_heads = "int8", "bfloat16"
    net(torch.rand(2, 3, HEIGHT, WIDTH))  # pays for what is made once
    seconds = _timed(net)
    images = torch.rand(frames, 3, HEIGHT, WIDTH)
    peak = PeakMemory("cpu")  # with the pictures, which are the caller's
    with peak.measured():
        started = time.process_time()
        net(images, attention_keys=budget_of(way, frames))
        total = time.process_time() - started
    parts = {name: round(value, 3) for name, value in seconds.items()}
    parts["rest"] = round(total - sum(parts.values()), 3)
    return {
        "way": way,
        "frames": frames,
        "keys": keys_of(way, frames).document(),
        "peak_bytes": peak.bytes,
        "weight_bytes": sum(tensor.nbytes for tensor in (*net.parameters(), *net.buffers())),
        "seconds": round(total, 3),
        "parts": parts,
    }


def _timed(net: nn.Module) -> Counter[str]:
    """Seconds of each kind of block from here on."""
    seconds: Counter[str] = Counter()
    started = 0.0

    def begin(module: nn.Module, arguments: object) -> None:
        nonlocal started
        started = time.process_time()

    def end(name: str) -> Callable[..., None]:
        def note(module: nn.Module, arguments: object, output: object) -> None:
            seconds[name] += time.process_time() - started

        return note

    aggregator = net.get_submodule("aggregator")
    kinds = {
        "encoder": aggregator.get_submodule("patch_embed.blocks"),
        "frame": aggregator.get_submodule("frame_blocks"),
        "global": aggregator.get_submodule("global_blocks"),
    }
    for name, blocks in kinds.items():
        for block in blocks.children():
            block.register_forward_pre_hook(begin)
            block.register_forward_hook(end(name))
    return seconds


def _slope(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Bytes a frame between the fewest and the most frames of each way."""
    slopes = {}
    for way in WAYS:
        own = sorted((row["frames"], row["peak_bytes"]) for row in rows if row["way"] == way)
        if len(own) > 1:
            (first, low), (last, high) = own[0], own[-1]
            slopes[f"{way}, {first} to {last} frames"] = round((high - low) / (last - first))
    return slopes


def _exponent(rows: list[dict[str, Any]]) -> float:
    frames, seconds = ([row[name] for row in rows] for name in ("frames", "seconds"))
    return round(float(np.polyfit(np.log(frames), np.log(seconds), 1)[0]), 3)


def vggt_1b(rows: list[dict[str, Any]], pairs: int) -> dict[str, dict[str, dict[str, Any]]]:
    """Seconds and peak bytes of VGGT-1B by way and frames; prints them. Nothing of it was measured
    whole: seconds are 24 times a block's. What was not measured follows from fits: seconds from
    what is proportional to frames and to pairs of query and key, bytes to frames and to keys."""
    seconds = _seconds_model(rows, pairs)
    peak_bytes = _bytes_model(rows)
    found: dict[str, dict[str, dict[str, Any]]] = {way: {} for way in (*WAYS, IN_CHUNKS)}
    for frames in WANTED:
        for way in WAYS:
            same = [r for r in rows if (r["way"], r["frames"]) == (way, frames)]
            kept = keys_of(way, frames).kept
            found[way][str(frames)] = {
                "seconds": round(_whole(same[0], pairs) if same else seconds(frames, kept), 1),
                "peak_bytes": same[0]["peak_bytes"] if same else peak_bytes(frames, kept),
                "frames_measured": bool(same),
            }
        if frames > CHUNK:
            chunks = [len(c) for c in chunk_frames(frames, CHUNK, SHARED)]
            taken = sum(seconds(n, keys_of("usual budget", n).kept) for n in chunks)
            found[IN_CHUNKS][str(frames)] = {
                "seconds": round(taken, 1),
                "peak_bytes": peak_bytes(CHUNK, keys_of("usual budget", CHUNK).kept),
                "frames_measured": False,
            }
    for way, by_frames in found.items():
        for count, row in by_frames.items():
            told = "" if row["frames_measured"] else "  (frames extrapolated)"
            gibibytes = row["peak_bytes"] / GIBIBYTE
            print(f"{way:28} {count:>5} {row['seconds']:12,.0f} s {gibibytes:7.2f} GiB{told}")
    return found


def _whole(row: dict[str, Any], pairs: int) -> float:
    parts = row["parts"]
    blocks = (parts["frame"] + parts["global"]) / pairs + parts["encoder"] / ENCODER_BLOCKS
    return float(WHOLE * blocks + parts["rest"])


def _seconds_model(rows: list[dict[str, Any]], pairs: int) -> Callable[[int, int], float]:
    tokens = GRID[0] * GRID[1] + SPECIAL
    work = [(row["frames"], row["frames"] * tokens * row["keys"]["kept"]) for row in rows]
    taken = [_whole(row, pairs) for row in rows]
    # relative errors: a second counts for more in a short pass
    weight = np.array([1 / each for each in taken])
    (a, b), *_ = np.linalg.lstsq(np.array(work) * weight[:, None], np.ones(len(rows)), rcond=None)
    return lambda frames, kept: float(a * frames + b * frames * tokens * kept)


def _bytes_model(rows: list[dict[str, Any]]) -> Callable[[int, int], int]:
    held = [(1, row["frames"], row["keys"]["kept"]) for row in rows]
    (start, a, b), *_ = np.linalg.lstsq(held, [row["peak_bytes"] for row in rows], rcond=None)
    return lambda frames, kept: round(float(start + a * frames + b * kept))


def _draw(found: dict[str, dict[str, dict[str, Any]]], path: Path) -> None:
    mpl.use("Agg")
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for index, (way, rows) in enumerate(found.items()):
        counts = [int(count) for count in rows]
        known = [count for count in counts if rows[str(count)]["frames_measured"]]
        for axes, key, unit in ((left, "seconds", 3600), (right, "peak_bytes", GIBIBYTE)):
            values = {count: rows[str(count)][key] / unit for count in counts}
            axes.plot(counts, list(values.values()), "--", color=f"C{index}", label=way)
            axes.plot(known, [values[n] for n in known], "o", color=f"C{index}", markersize=4)
    left.set(xlabel="frames", ylabel="hours of one core", yscale="log")
    right.set(xlabel="frames", ylabel="peak memory beyond the weights, GiB", yscale="log")
    for axes in (left, right):
        axes.set_xscale("log", base=2)
        axes.legend(fontsize=8)
        axes.grid(alpha=0.3)
    figure.suptitle(
        "VGGT-1B, extrapolated from blocks of each kind; frames of 518x392, W4A4, 8-bit attention; "
        "dots: frames measured",
        fontsize=9,
    )
    figure.savefig(path, dpi=150)
    print(f"-> {path}")


if __name__ == "__main__":
    sys.exit(main())
