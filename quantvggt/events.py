"""Server-sent events of a reconstruction."""

from __future__ import annotations

import json
from typing import Any

from quantvggt.transfer import Progress

ENDED = ("succeeded", "failed", "cancelled")


class Events:
    """Server-sent events of a reconstruction, as they come in."""

    def __init__(self, last: str, progress: Progress) -> None:
        self.last = last  # number of the latest one
        self.ended = False
        self._progress = progress
        self._rest = b""

    def feed(self, chunk: bytes) -> None:
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            name, _, value = line.decode("utf-8").partition(": ")
            if name == "id":
                self.last = value
            elif name == "data":
                self._take(json.loads(value))

    def _take(self, data: dict[str, Any]) -> None:
        if "timings" in data or data["state"] in ENDED:
            self.ended = True
            if data["state"] == "succeeded":  # however fast it was
                self._progress("reconstruct", 1.0)
        elif (data.get("stage") or data["state"]) in ("queue", "queued"):
            self._progress("queue", 0.0)
        else:
            self._progress("reconstruct", float(data["progress"]))
