"""The refinement's own process: started, watched, and ended with everything in it.

COLMAP ends its process when one of its threads throws, so nothing that matters may share it.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from refinement.result import Reason

Report = Callable[[str, float], None]

_WATCH_SECONDS = 0.1
_LONGEST_LINE = 1 << 10
_MODULE = "refinement.child"
_LOG = "log.txt"


@dataclass(frozen=True)
class Ending:
    """How the process ended. `reason` is None if it came to its end by itself."""

    reason: Reason | None
    peak_bytes: int


def run_child(folder: Path, seconds: float, memory_bytes: int, report: Report) -> Ending:
    """Runs the task of `folder` to its end, or until time or memory are used up.

    `report` is called with the stage and its share from 0 to 1 at least ten times a second;
    whatever it raises ends the process and is raised again.
    """
    reading, writing = os.pipe()
    with open(reading, "rb", buffering=0) as events:
        try:
            child = _started(folder, writing)
        finally:
            os.close(writing)
        try:
            return _watch(child, events.fileno(), folder, seconds, memory_bytes, report)
        finally:
            child.kill()
            child.wait()


def _started(folder: Path, pipe: int) -> subprocess.Popen[bytes]:
    with open(folder / _LOG, "wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", _MODULE, str(folder), str(os.getpid()), str(pipe)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            pass_fds=(pipe,),
            start_new_session=True,
            env=_environment(),
        )


def die_with_parent(parent: int) -> None:
    """Ends this process as soon as the one that started it is gone. Linux only."""
    if sys.platform == "linux":
        import ctypes

        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
        if os.getppid() != parent:  # gone before we could ask
            os._exit(1)


def _environment() -> dict[str, str]:
    """Where to find this package, and a quiet COLMAP."""
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
        "GLOG_minloglevel": "2",
    }


def _watch(
    child: subprocess.Popen[bytes],
    events: int,
    folder: Path,
    seconds: float,
    memory_bytes: int,
    report: Report,
) -> Ending:
    deadline = time.monotonic() + seconds
    peak, stage, share, unread = 0, "start", 0.0, b""
    open_pipe = True
    while child.poll() is None:
        if open_pipe and select.select([events], [], [], _WATCH_SECONDS)[0]:
            received = os.read(events, 1 << 16)
            open_pipe = bool(received)
            *lines, unread = (unread + received[-_LONGEST_LINE:]).split(b"\n")
            unread = unread[-_LONGEST_LINE:]
            if lines:
                stage, share = _progress(lines[-1]) or (stage, share)
        elif not open_pipe:
            time.sleep(_WATCH_SECONDS)
        report(stage, share)
        resident, highest = _memory(child.pid)
        peak = max(peak, highest)
        if resident > memory_bytes:
            return Ending(
                Reason(
                    "memory-limit",
                    f"Stopped at {resident >> 20} MiB of memory; {memory_bytes >> 20} MiB are "
                    "allowed. Send fewer or smaller pictures, or allow more.",
                ),
                peak,
            )
        if time.monotonic() > deadline:
            return Ending(
                Reason(
                    "time-limit",
                    f"Stopped after {seconds:g} seconds, in the stage {stage!r}. "
                    "Send fewer pictures, or allow more time.",
                ),
                peak,
            )
    if child.returncode == 0:
        return Ending(None, peak)
    return Ending(Reason("crashed", _what_happened(child.returncode, stage, folder)), peak)


def _progress(line: bytes) -> tuple[str, float] | None:
    """Stage and share of a line that the process wrote; None if it is none of its."""
    try:
        stage, share = json.loads(line)
        return (str(stage), float(share)) if 0 <= float(share) <= 1 else None
    except (ValueError, TypeError, RecursionError):
        return None


def _what_happened(returncode: int, stage: str, folder: Path) -> str:
    """The end of a process in words, with the last line that it wrote."""
    how = f"exit status {returncode}"
    if returncode < 0:
        how = f"signal {signal.Signals(-returncode).name}"
    with (folder / _LOG).open("rb") as log:
        log.seek(max(log.seek(0, os.SEEK_END) - _LONGEST_LINE, 0))
        written = log.read().decode(errors="replace").strip().splitlines()
    last = f": {written[-1].strip()[:200]}" if written else ""
    return f"The refinement's process ended in the stage {stage!r} with {how}{last}"


def _memory(pid: int) -> tuple[int, int]:
    """Bytes that a process holds in memory now and held at most; 0 where that can't be known."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0, 0
    found = {"VmRSS": 0, "VmHWM": 0}
    for line in status.splitlines():
        name, _, value = line.partition(":")
        if name in found:
            found[name] = int(value.split()[0]) << 10
    return found["VmRSS"], found["VmHWM"]
