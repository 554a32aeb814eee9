"""Interleaved timing: every candidate once a round, ratios taken within a round, so that a
machine's moods cancel.

One thread is timed by the processor time it takes, which other people's work on the machine hardly
touches; several threads by the clock on the wall. Before each candidate are a pause, in which
threads of the candidate before stop spinning, and a call that is not timed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from kernels import kernel_path
from model.files.provenance import commit

Call = Callable[[], object]
_SETTLED_SECONDS = 0.1
_FLAGS = ("avx2", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16")


def compare(
    candidates: Mapping[str, Call], rounds: int, warm_up: bool = True
) -> dict[str, dict[str, float]]:
    """Milliseconds of each candidate, and how many times faster than the first one it is: median
    and quartiles."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    for call in candidates.values() if warm_up else ():
        call()
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, call in candidates.items():
            if warm_up:
                time.sleep(_SETTLED_SECONDS)
                call()
            started = clock()
            call()
            seconds[name].append(clock() - started)
    baseline = seconds[next(iter(candidates))]
    return {name: _summary(taken, baseline) for name, taken in seconds.items()}


def _summary(taken: list[float], baseline: list[float]) -> dict[str, float]:
    ratios = [first / own for first, own in zip(baseline, taken, strict=True)]
    low, middle, high = _quartiles(ratios)
    return {
        "milliseconds": round(statistics.median(taken) * 1e3, 3),
        "fastest_milliseconds": round(min(taken) * 1e3, 3),
        "speed": round(middle, 2),
        "speed_low": round(low, 2),
        "speed_high": round(high, 2),
    }


def _quartiles(values: list[float]) -> tuple[float, float, float]:
    if len(values) < 2:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def machine() -> dict[str, Any]:
    """What a figure depends on."""
    return {
        "processor": _processor(),
        "cores": len(_cores()),
        "clock": "processor time with one thread, wall time with several",
        "kernels": str(kernel_path()),
        "torch": torch.__version__,
        "torch_instructions": torch.backends.cpu.get_cpu_capability(),
        "python": platform.python_version(),
        "commit": commit(),
        "command": " ".join((*_held(), "python -m", _module(), *sys.argv[1:])),
    }


def _held() -> list[str]:
    """Settings of the environment that hold torch and its libraries to older instructions."""
    names = (
        "QUANTVGGT_KERNELS",
        "ATEN_CPU_CAPABILITY",
        "MKL_ENABLE_INSTRUCTIONS",
        "ONEDNN_MAX_CPU_ISA",
    )
    return [f"{name}={os.environ[name]}" for name in names if name in os.environ]


def _module() -> str:
    specification = getattr(sys.modules["__main__"], "__spec__", None)
    return specification.name if specification else sys.argv[0]


def _cores() -> set[int]:
    return (
        os.sched_getaffinity(0)
        if hasattr(os, "sched_getaffinity")
        else set(range(os.cpu_count() or 1))
    )


def _processor() -> str:
    """Model name and the instruction sets that matter here; virtual machines often hide the
    former."""
    try:
        lines = dict(
            line.split(":", 1)
            for line in Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
        )
    except (OSError, ValueError):
        return platform.processor() or platform.machine()
    facts = {key.strip(): value.strip() for key, value in lines.items()}
    flags = facts.get("flags", "").split()
    known = [name for name in _FLAGS if name in flags]
    return f"{facts.get('model name', platform.machine())} ({', '.join(known)})"


def arguments(description: str | None) -> argparse.ArgumentParser:
    """What every benchmark takes."""
    parser = argparse.ArgumentParser(description=(description or "").split("\n")[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    parser.add_argument(
        "--threads",
        type=int,
        nargs="+",
        default=[1, min(2, len(_cores()))],
        help="numbers of threads",
    )
    parser.add_argument("--rounds", type=int, default=9)
    return parser


def table(title: str, rows: Mapping[str, Mapping[str, float]]) -> None:
    """Prints candidates with their time, speed and its quartiles."""
    print(title)
    for name, row in rows.items():
        spread = f"[{row['speed_low']:.2f}, {row['speed_high']:.2f}]"
        print(f"  {name:28} {row['milliseconds']:10.2f} ms   {row['speed']:6.2f}x  {spread}")


def write(path: Path | None, report: Mapping[str, Any]) -> None:
    """Writes a report as JSON, if a file was asked for."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(report, indent=1) + "\n")
        print(f"-> {path}")
