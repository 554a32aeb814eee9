"""What passes between the caller's process and the refinement's own: two files in a folder."""

from __future__ import annotations

import os
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from refinement.network import NetworkScene
from refinement.options import RefineOptions
from refinement.photograph import Photograph
from refinement.result import Refinement

_TASK, _ANSWER = "task.pickle", "answer.pickle"

Wanted = Literal["cameras", "dense"]


@dataclass(frozen=True)
class Task:
    """One refinement to do."""

    photographs: Sequence[Photograph]
    network: NetworkScene
    wanted: Wanted
    options: RefineOptions

    def write(self, folder: Path) -> None:
        (folder / _TASK).write_bytes(pickle.dumps(self))

    @classmethod
    def read(cls, folder: Path) -> Task:
        task: Task = pickle.loads((folder / _TASK).read_bytes())
        return task


def write_answer(answer: Refinement, folder: Path) -> None:
    """Replaces the answer in one step: whoever is killed leaves the one before."""
    new = folder / f"{_ANSWER}.new"
    new.write_bytes(pickle.dumps(answer))
    os.replace(new, folder / _ANSWER)


def read_answer(folder: Path) -> Refinement | None:
    """The last answer that was written."""
    path = folder / _ANSWER
    if not path.exists():
        return None
    answer: Refinement = pickle.loads(path.read_bytes())
    return answer
