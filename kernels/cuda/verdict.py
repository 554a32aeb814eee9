"""Which parts of the kernels may be used on a device: the trial, run in a process of its own.

A kernel that traps or touches memory that is not its own spoils its process for good: every later
CUDA call fails. So a part that ends the trial's process, or lets it run out of time, is left out,
and a new process goes on with the parts behind it. What was found is kept beside the compiled
object, by the device, its driver and torch, until one of them changes. Where nothing can be kept,
each start tries again.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from kernels.cache import keep as keep_file

OK, WRONG, CRASHED, TIMED_OUT = "ok", "wrong", "crashed", "timed out"
TIME_LIMIT = 60.0  # seconds for all parts; starting CUDA takes some of them
_TRIAL = "import sys; from kernels.cuda.trial import main; sys.exit(main())"
_ROOT = Path(__file__).parents[2]


def judge(
    path: Path,
    target: str,
    device: str,
    parts: tuple[str, ...],
    machine: str,
    limit: float,
    keep: bool = True,
) -> dict[str, str]:
    """OK, WRONG, CRASHED or TIMED_OUT for each of `parts` of the object at `path`, in at most
    `limit` seconds.

    `machine` names everything that may change the answer and is not in the object. Without `keep`
    the trial runs again.
    """
    digest = hashlib.sha256(f"{path.name} {machine} {parts}".encode()).hexdigest()[:12]
    kept = path.with_name(f"verdict-{digest}.json")
    if keep and (found := _read(kept, parts)):
        return found
    verdict = _try(path, target, device, parts, limit)
    if (
        keep and TIMED_OUT not in verdict.values()
    ):  # a busy machine may be slow; nothing else changes
        keep_file(kept, verdict)
    return verdict


def _read(path: Path, parts: tuple[str, ...]) -> dict[str, str] | None:
    """The verdict that was kept; a file that is damaged counts as none."""
    with suppress(OSError, ValueError):
        found = json.loads(path.read_text())
        if isinstance(found, dict) and set(found) == set(parts):
            return found
    return None


def _try(
    path: Path, target: str, device: str, parts: tuple[str, ...], limit: float
) -> dict[str, str]:
    deadline = time.monotonic() + limit
    verdict: dict[str, str] = {}
    while left := [part for part in parts if part not in verdict]:
        end, output = _run(path, target, device, left, max(0.0, deadline - time.monotonic()))
        said = [line.rpartition(" ") for line in output.splitlines()]
        verdict |= {part: word for part, _, word in said if part in left and word in (OK, WRONG)}
        unfinished = [part for part in left if part not in verdict]
        if end == TIMED_OUT:
            return verdict | dict.fromkeys(unfinished, TIMED_OUT)
        if unfinished:  # the first of them ended the process
            begun = any(part == unfinished[0] for part, _, word in said if word == "begins")
            verdict |= dict.fromkeys(unfinished[: 1 if begun else None], CRASHED)
    return verdict


def _run(
    path: Path, target: str, device: str, parts: list[str], limit: float
) -> tuple[str | None, str]:
    """How the process ended, if not well, and what it printed."""
    command = [sys.executable, "-c", _TRIAL, str(path), target, device, *parts]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(_ROOT), *sys.path[1:]])}
    with tempfile.TemporaryFile("w+") as printed:
        try:
            code = subprocess.run(
                command, stdout=printed, env=environment, timeout=limit, check=False
            ).returncode
            end = None if code == 0 else CRASHED
        except subprocess.TimeoutExpired:
            end = TIMED_OUT
        printed.seek(0)
        return end, printed.read()
