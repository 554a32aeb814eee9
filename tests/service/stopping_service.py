"""``python -m service`` as it is, but that it stands still at a point of a job's life if the folder
$STOP has a file of that point's name. It says so by the file "reached"."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from quantvggt.command import main
from service.inference.engine import Engine
from service.inputs.decoding import Decoding
from service.jobs.store import JobStore
from service.pipeline import refine
from service.pipeline.work import Work

BEFORE, AFTER = True, False
POINTS: dict[str, tuple[Any, str, bool]] = {
    "decoding": (Decoding, "decode", BEFORE),
    "kept but not recorded": (JobStore, "add", BEFORE),
    "queued": (JobStore, "add", AFTER),
    "taken up": (JobStore, "claim", AFTER),
    "running": (Engine, "infer", BEFORE),
    "refining": (refine._Watch, "__call__", BEFORE),
    "writing": (Work, "_document", AFTER),
    "written but not recorded": (JobStore, "finish", BEFORE),
    "done": (JobStore, "finish", AFTER),
    "removing": (JobStore, "forget", BEFORE),
}
"""Before or after which call of which object each point is."""


def _standing_still(point: str, call: Callable[..., Any], before: bool) -> Callable[..., Any]:
    stop = Path(os.environ["STOP"])

    def called(*arguments: Any, **options: Any) -> Any:
        if before:
            _stand_still(stop, point)
        found = call(*arguments, **options)
        if not before and (found is not None or point != "taken up"):
            _stand_still(stop, point)
        return found

    return called


def _stand_still(stop: Path, point: str) -> None:
    if (stop / point).exists():
        (stop / "reached").touch()
        time.sleep(3600)


if __name__ == "__main__":
    for point, (owner, name, before) in POINTS.items():
        setattr(owner, name, _standing_still(point, getattr(owner, name), before))
    sys.exit(main())
