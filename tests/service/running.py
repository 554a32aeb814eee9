"""A service under test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx

from service.engine import Engine


@dataclass
class Running:
    """A service in this process, behind a real socket."""

    client: httpx.Client
    engine: Engine
    port: int
    data_dir: Path

    def metric(self, line: str) -> float:
        """The value on the line of /metrics that starts with `line` and a blank."""
        for text in self.client.get("/metrics").text.splitlines():
            if text.startswith(line + " "):
                return float(text.rsplit(" ", 1)[1])
        raise AssertionError(f"no metric {line}")


Serve = Callable[..., Running]
