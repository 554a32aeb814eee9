"""Tries, tests and measures the kernels on this machine's GPU, in steps that can't hurt each other.

    QUANTVGGT_KERNEL_CACHE=build/kernels python -m kernels.cuda build sm_90a    # before, anywhere
    python -m benchmarks.gpu --out build/gpu                                    # on the GPU

Every step is a process of its own with a time limit, writes its file in the folder `--out` row by
row, and is ended when its time is over; the next one starts whatever became of it. `log.txt` has
what they print and how each ended. Kernels compiled before and copied along, with build/kernels,
save a minute and a half.

`--device cpu` goes through the same steps without a GPU, on tiny sizes, with the kernels in
emulation: it shows that the program works, and its figures mean nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PREBUILT = ROOT / "build" / "kernels"
TOTAL = 535.0  # seconds for everything
DRY_RUN = 4  # times as long may all of it take without a GPU, on a machine that may be busy
TESTS = "tests/kernels/cuda"
# one case of every kernel, for the sanitizer
FEW_TESTS = "surroundings and float32 or queries and bfloat16 or no_power_of_two or view"
FEW_EMULATED = "sm_90a and falling and (extreme or overflow)"


@dataclass(frozen=True)
class Step:
    """`seconds` is its limit; without a `command` it is left out, and `missing` says why."""

    name: str
    seconds: float
    command: tuple[str, ...]
    missing: str = ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="a folder for at most 8 files")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--steps", nargs="+", metavar="NAME", help="only these")
    parser.add_argument(
        "--limit", action="append", default=[], metavar="NAME=SECONDS", help="of one step"
    )
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    every = steps(args.out.resolve(), args.device)
    names = [step.name for step in every]
    limits = dict(text.split("=", 1) for text in args.limit)
    for name in [*(args.steps or ()), *limits]:
        if name not in names:
            parser.error(f"there is no step {name!r}; expected one of {', '.join(names)}")
    if PREBUILT.is_dir():
        os.environ.setdefault("QUANTVGGT_KERNEL_CACHE", str(PREBUILT))
    patience = 1 if args.device == "cuda" else DRY_RUN
    started, failed = time.monotonic(), False
    for step in every:
        if args.steps and step.name not in args.steps:
            continue
        left = patience * TOTAL - (time.monotonic() - started)
        seconds = min(float(limits.get(step.name, patience * step.seconds)), left)
        begun = time.monotonic()
        end = run(step, seconds, args.out / "log.txt") if left > 1 else "left out, no time left"
        line = f"== {step.name}: {end}, {time.monotonic() - begun:.0f} s"
        print(line, flush=True)
        with (args.out / "log.txt").open("a") as log:
            log.write(line + "\n")
        failed |= end != "ok" and not step.missing
    return int(failed)


def steps(out: Path, device: str) -> list[Step]:
    """All steps, in the order of what one would miss most."""
    python = sys.executable

    def own(name: str, seconds: float) -> Step:
        command = (python, "-m", f"benchmarks.gpu.{name}", "--device", device, "--out", str(out))
        return Step(name, seconds, command)

    chosen = ("-m", "cuda", TESTS) if device == "cuda" else (TESTS, "-k", FEW_EMULATED)
    pytest = (python, "-m", "pytest", "-W", "default", "-q", "-p", "no:cacheprovider")
    tests = (*pytest, "--maxfail=50", f"--junitxml={out / 'tests.xml'}", *chosen)
    no_pytest = "" if importlib.util.find_spec("pytest") else "pytest is not installed"
    sanitizer = shutil.which("compute-sanitizer", path=f"{os.environ['PATH']}:/usr/local/cuda/bin")
    no_sanitizer = no_pytest or ("" if sanitizer else "compute-sanitizer is not installed")

    def sanitized(tool: str, seconds: float) -> Step:
        flags = ("--tool", tool, "--error-exitcode", "1", "--target-processes", "all")
        few = (*pytest, "-m", "cuda", f"{TESTS}/test_backend.py", "-k", FEW_TESTS)
        return Step(tool, seconds, (sanitizer or "", *flags, *few), no_sanitizer)

    return [
        own("probe", 20),
        own("trial", 60),
        Step("tests", 70, tests, no_pytest),
        own("linear", 90),
        own("attention", 50),
        own("network", 130),
        own("numbers", 45),
        sanitized("memcheck", 60),
        sanitized("racecheck", 45),
    ]


def run(step: Step, seconds: float, log: Path) -> str:
    """Runs a step, and everything that it starts, for at most so many seconds; says how it
    ended."""
    if step.missing:
        return f"left out, {step.missing}"
    with log.open("a") as file:
        process = subprocess.Popen(
            step.command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            code = process.wait(timeout=seconds)
            return "ok" if code == 0 else f"failed with {code}"
        except subprocess.TimeoutExpired:
            return f"ended after {seconds:.3g} s"
        finally:
            end_session(process)


def end_session(process: subprocess.Popen[bytes]) -> None:
    """Ends what is left of the process's session."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


if __name__ == "__main__":
    sys.exit(main())
