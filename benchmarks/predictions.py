"""Time and memory of a pass as the service predicts them, beside what the pass then takes.

    python -m benchmarks.predictions --artifact artifact --json predictions.json

The estimates are the first ones: what the service learns from its start alone. Of each number of
frames three passes are run, of which the fastest counts, for other programs only make one slower.
One thread is timed by the processor time that it takes, several by the clock on the wall.
"""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from benchmarks.timing import arguments, machine, write
from model.scene.preprocess import ImageTransform, PreprocessedImages
from service.inference import engine as engine_module
from service.inference.engine import Engine
from service.inference.network_pass import Pass
from service.inference.plan import Asked
from service.settings import InferenceSettings

_MEBIBYTE = 2**20
_ROUNDS = 3


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--artifact", type=Path, required=True)
    parser.add_argument("--frames", type=int, nargs="+", default=[8, 32, 128])
    parser.add_argument("--size", type=int, nargs=2, default=[72, 96], metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--attention-keys", default="all")
    args = parser.parse_args()
    if max(args.threads) == 1:
        engine_module.time = SimpleNamespace(perf_counter=time.process_time)
    engine = Engine(InferenceSettings(artifact=args.artifact, threads=max(args.threads)))
    engine.load()
    asked = Asked(args.attention_keys, "one")
    plans = {frames: engine.planner.plan(frames, *args.size, asked) for frames in args.frames}
    report: dict[str, Any] = {
        "machine": machine(),
        "threads": max(args.threads),
        "artifact": engine.document().name,
        "size": args.size,
        "attention_keys": args.attention_keys,
        "frames": {},
    }
    for frames, plan in plans.items():
        done = [_run(engine, frames, *args.size, plan.attention_keys) for _ in range(_ROUNDS)]
        found = {
            "keys": plan.keys.document(),
            "predicted_seconds": plan.cost.seconds,
            "seconds": min(each.cost.seconds for each in done),
            "predicted_bytes": plan.cost.bytes,
            "bytes": min(each.peak_bytes for each in done),
        }
        report["frames"][str(frames)] = found
        for unit, name, scale in (("s", "seconds", 1), ("MiB", "bytes", _MEBIBYTE)):
            predicted, taken = found[f"predicted_{name}"] / scale, found[name] / scale
            print(
                f"{frames:>4} frames: {predicted:.3f} {unit} predicted, {taken:.3f} {unit} taken "
                f"({predicted / taken:.2f})",
                flush=True,
            )
        write(args.json, report)


def _run(engine: Engine, frames: int, height: int, width: int, keys: int | None) -> Pass:
    transform = ImageTransform((height, width), (height, width), (1.0, 1.0), (0.0, 0.0))
    images = torch.rand(frames, 3, height, width)
    return engine.infer(PreprocessedImages(images, (transform,) * frames), attention_keys=keys)


if __name__ == "__main__":
    main()
