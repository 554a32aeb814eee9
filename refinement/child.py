"""What runs in the refinement's own process: `python -m refinement.child FOLDER PARENT PIPE`."""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

from refinement.answer import write_answer
from refinement.process import Report, die_with_parent
from refinement.result import NOT_FINISHED, Reason, Refinement
from refinement.task import Task


def main() -> None:
    folder, parent, pipe = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    die_with_parent(parent)
    task = Task.read(folder)

    def report(stage: str, share: float) -> None:
        os.write(pipe, json.dumps([stage, share]).encode() + b"\n")

    def keep(answer: Refinement) -> None:
        write_answer(answer, folder)

    from refinement.cameras.refine import refine_cameras

    answer = refine_cameras(task, folder, report, keep)
    if task.wanted == "dense":
        keep(replace(answer, dense_reason=NOT_FINISHED))
        answer = _with_dense_depth(answer, task, report)
    keep(answer)


def _with_dense_depth(answer: Refinement, task: Task, report: Report) -> Refinement:
    if answer.sparse is None:
        reason = Reason("cameras-not-refined", "Dense depth needs cameras that matches support.")
        return replace(answer, dense_reason=reason)
    from refinement.dense import dense_depth

    started = time.monotonic()
    pictures = answer.pictures
    if answer.kept == 0:  # the network's cameras are as good as refined ones
        pictures = tuple(replace(picture, source="refined") for picture in pictures)
    dense = dense_depth(
        task.photographs,
        pictures,
        answer.sparse,
        task.network.depth,
        task.options,
        task.matching,
        report,
    )
    seconds = {**answer.seconds, "dense": time.monotonic() - started}
    return replace(answer, dense=dense, seconds=seconds)


if __name__ == "__main__":
    main()
