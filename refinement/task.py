"""What the refinement's own process is given by its caller: a file in a folder of theirs."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from refinement.network import NetworkScene
from refinement.options import RefineOptions
from refinement.photograph import Photograph

_FILE = "task.pickle"

Wanted = Literal["cameras", "dense"]


@dataclass(frozen=True)
class Task:
    """One refinement to do."""

    photographs: Sequence[Photograph]
    network: NetworkScene
    wanted: Wanted
    options: RefineOptions
    matching: Path | None = None
    """The compiled matching of dense depth; None where there is none, or none is needed."""

    def write(self, folder: Path) -> None:
        (folder / _FILE).write_bytes(pickle.dumps(self))

    @classmethod
    def read(cls, folder: Path) -> Task:
        task: Task = pickle.loads((folder / _FILE).read_bytes())
        return task
