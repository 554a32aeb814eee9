"""Which of several ways to compute the same is the fastest on this machine: measured once, and
kept."""

from __future__ import annotations

import hashlib
import json
import statistics
import threading
import time
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import torch

from kernels.cache import cache_folder, keep
from kernels.machine import describe

Way = Callable[[], object]

_ROUNDS = 5


class Fastest:
    """Measured times of the ways to compute something, by what it is and by way.

    They are kept in a file of `folder` for the `machine` that they were measured on (`machine.py`
    and whatever else they depend on); a file that is damaged counts as none. Ways run on `device`.
    """

    def __init__(self, folder: Path, machine: str, device: torch.device) -> None:
        digest = hashlib.sha256(machine.encode()).hexdigest()[:12]
        self.file = folder / f"fastest-{digest}.json"
        self._machine, self._device = machine, device
        self._lock = threading.Lock()
        self._chosen: dict[str, str] = {}
        self._times = self._read()

    def chosen(self, what: str) -> str | None:
        """The way that `choose` gave for `what` in this process."""
        return self._chosen.get(what)

    def choose(self, what: str, ways: Mapping[str, Way]) -> str:
        """The fastest of `ways` to compute `what`; they are run if that is not known.

        A way that raises an error which says that it can't run here is left out. If none can run,
        the answer is the first. Not to be called while a graph is captured.
        """
        with self._lock:
            times = self._times.get(what)
            if times is None or set(times) != set(ways):
                times, lasting = _measured(ways, self._device)
                if lasting:
                    self._times[what] = times
                    self._write()
            able = {way: seconds for way, seconds in times.items() if seconds is not None}
            self._chosen[what] = min(able, key=lambda way: able[way]) if able else next(iter(ways))
            return self._chosen[what]

    @property
    def times(self) -> dict[str, dict[str, float | None]]:
        """Seconds of one run by what is computed and by way; None for a way that can't run."""
        return dict(self._times)

    def _read(self) -> dict[str, dict[str, float | None]]:
        try:
            kept = json.loads(self.file.read_text())
            if kept["machine"] != self._machine:
                return {}
            return {
                what: {way: None if cost is None else float(cost) for way, cost in times.items()}
                for what, times in kept["times"].items()
            }
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}

    def _write(self) -> None:
        """Puts all times in place at once; what another process has measured since stays."""
        self._times = self._read() | self._times
        keep(self.file, {"machine": self._machine, "times": self._times})


@cache
def fastest_on(device: torch.device, kernels: str = "") -> Fastest:
    """The table of a device, where `kernels` names the compiled kernels that its ways may run."""
    return Fastest(cache_folder(), f"{describe(device)}, {kernels}", device)


def _measured(
    ways: Mapping[str, Way], device: torch.device
) -> tuple[dict[str, float | None], bool]:
    """Median seconds of a run by way, and whether the next start would find the same."""
    samples: dict[str, list[float]] = {}
    lasting = True
    for way, run in ways.items():
        try:
            run()  # not timed: pays for what is made once
            samples[way] = []
        except torch.OutOfMemoryError:
            lasting = False
        except (RuntimeError, ValueError):
            continue  # it can't run here
    for _ in range(_ROUNDS):  # in turns, so that all meet the same machine
        for way, values in samples.items():
            values.append(_timed(ways[way], device))
    return {
        way: statistics.median(samples[way]) if way in samples else None for way in ways
    }, lasting


def _timed(run: Way, device: torch.device) -> float:
    if device.type != "cuda":
        started = time.perf_counter()
        run()
        return time.perf_counter() - started
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    run()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1e3
