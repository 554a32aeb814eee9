"""Sizes of the full VGGT-1B: checkpoint, artifact, and peak resident memory of quantising and of
running it.

    python -m benchmarks.vggt_1b --out benchmarks/results/vggt_1b.json

Weights are random (sizes and memory do not depend on their values), so that nobody needs a gated
download to repeat this. Needs about 7 GiB of disk under --work. Every step runs in a process of its
own, so that its peak is its own.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import save_file

from model import VGGT
from model.families.vggt.presets import PRESETS
from model.files.artifact import load
from model.files.checkpoint import load_checkpoint
from model.files.provenance import commit

MEBIBYTE = 2**20


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/vggt_1b.json"))
    parser.add_argument(
        "--work", type=Path, help="folder for the checkpoint and the artifact (default: temporary)"
    )
    parser.add_argument("--frames", type=int, default=2)
    parser.add_argument(
        "--size", type=int, nargs=2, default=(392, 518), metavar=("HEIGHT", "WIDTH")
    )
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.step:
        return run_step(args)
    with tempfile.TemporaryDirectory() as temporary:
        args.work = args.work or Path(temporary)
        args.work.mkdir(parents=True, exist_ok=True)
        report = {"steps": {step: spawn(step, args) for step in STEPS}}
    checkpoint = report["steps"]["write_checkpoint"]["bytes"]
    artifact = report["steps"]["quantise"]["artifact_bytes"]
    report |= {
        "checkpoint_bytes": checkpoint,
        "artifact_bytes": artifact,
        "checkpoint_over_artifact": round(checkpoint / artifact, 2),
        "quantise_peak_over_checkpoint": round(
            report["steps"]["quantise"]["peak_resident_bytes"] / checkpoint, 2
        ),
        "frames": args.frames,
        "size": list(args.size),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "commit": commit(),
        "command": "python -m benchmarks.vggt_1b",
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(report, indent=1) + "\n")
    for step, figures in report["steps"].items():
        peak = figures["peak_resident_bytes"] / MEBIBYTE
        print(f"{step:20} peak {peak:8,.0f} MiB   {figures['seconds']:6.1f} s")
    print(
        f"checkpoint {checkpoint / MEBIBYTE:,.0f} MiB, artifact {artifact / MEBIBYTE:,.0f} MiB -> "
        f"{args.out}"
    )
    return 0


def spawn(step: str, args: argparse.Namespace) -> dict[str, float]:
    """Runs one step in a fresh interpreter and returns what it measured."""
    command = [sys.executable, "-m", "benchmarks.vggt_1b", "--step", step, "--work", str(args.work)]
    command += ["--frames", str(args.frames), "--size", *map(str, args.size)]
    print(f"{step} …", file=sys.stderr, flush=True)
    finished = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    figures: dict[str, float] = json.loads(finished.stdout.splitlines()[-1])
    return figures


def run_step(args: argparse.Namespace) -> int:
    started = time.perf_counter()
    figures = STEPS[args.step](args)
    figures["seconds"] = round(time.perf_counter() - started, 1)
    figures["peak_resident_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps(figures))
    return 0


def write_checkpoint(args: argparse.Namespace) -> dict[str, float]:
    torch.manual_seed(0)
    net = VGGT(PRESETS["vggt-1b"])
    path = args.work / "model.safetensors"
    save_file(net.state_dict(), path)
    return {"bytes": path.stat().st_size, "tensors": len(net.state_dict())}


def quantise(args: argparse.Namespace) -> dict[str, float]:
    from quantvggt.command import main as quantization

    artifact = args.work / "artifact"
    sys.stdout.flush()
    stdout, sys.stdout = sys.stdout, sys.stderr
    status = quantization(
        ["quantize", str(args.work / "model.safetensors"), "--out", str(artifact), "--overwrite"]
    )
    sys.stdout = stdout
    assert status == 0
    return {"artifact_bytes": sum(file.stat().st_size for file in artifact.iterdir())}


def _run(net: VGGT, args: argparse.Namespace) -> dict[str, float]:
    torch.manual_seed(0)
    images = torch.rand(args.frames, 3, *args.size)
    loaded = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    started = time.perf_counter()
    with torch.inference_mode():
        prediction = net(images)
    finite = all(
        bool(value.isfinite().all())
        for value in (prediction.pose_enc, prediction.depth, prediction.world_points)
        if value is not None
    )
    return {
        "peak_after_load_bytes": loaded,
        "forward_seconds": round(time.perf_counter() - started, 1),
        "parameter_and_buffer_bytes": sum(t.nbytes for t in (*net.parameters(), *net.buffers())),
        "finite": finite,
    }


def run_float32(args: argparse.Namespace) -> dict[str, float]:
    return _run(
        load_checkpoint(args.work / "model.safetensors", heads=("camera", "depth", "point")), args
    )


def run_artifact(args: argparse.Namespace) -> dict[str, float]:
    return _run(load(args.work / "artifact"), args)


STEPS = {
    "write_checkpoint": write_checkpoint,
    "quantise": quantise,
    "run_float32": run_float32,
    "run_artifact": run_artifact,
}

if __name__ == "__main__":
    sys.exit(main())
