"""The time of day, without the jumps that a machine's clock makes when it is set."""

from __future__ import annotations

import threading
import time

_MOST_DRIFT = 0.1


class Clock:
    """Seconds since the epoch, always rising.

    It goes on at the rate of the machine's uptime and follows the machine's clock: where the two
    differ, it runs up to a tenth faster or slower until they agree. So no deadline, quota or age of
    a result is ever wrong by more than a tenth, however the machine's clock is set meanwhile.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._uptime = _uptime()
        self._time = time.time()

    def now(self) -> float:
        with self._guard:
            uptime = _uptime()
            elapsed = uptime - self._uptime
            ahead = time.time() - (self._time + elapsed)
            most = _MOST_DRIFT * elapsed
            self._uptime = uptime
            self._time += elapsed + min(max(ahead, -most), most)
            return self._time


def _uptime() -> float:
    """Seconds of the machine's uptime, sleep included where the system counts it."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


clock = Clock()
"""The one of this process."""
