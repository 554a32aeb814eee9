from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from scenes.synthetic.distribution import SceneDistribution
from scenes.synthetic.generator import SceneRequest, draw_scenes, render
from training.drawing import DrawingProcesses


def test_scenes_drawn_in_processes_are_the_same_scenes() -> None:
    first, second = (
        SceneRequest(range(start, start + 3), "train", 2, 24, 36, SceneDistribution.at_dial(1.0))
        for start in (0, 10)
    )
    drawing = DrawingProcesses(2)
    try:
        drawing.ask(second)
        for request in (first, second):  # the first was not asked for
            found, expected = drawing.take(request), draw_scenes(request)
            assert list(found.request.seeds) == list(request.seeds)
            assert all(
                torch.equal(a, b) for a, b in zip(found.frames, expected.frames, strict=True)
            )
            assert torch.equal(render(found).images, render(expected).images)
    finally:
        drawing.close()


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes under /proc")
def test_a_run_that_is_killed_leaves_no_process_drawing() -> None:
    script = """
import os, time
from training.drawing import DrawingProcesses
if __name__ == "__main__":
    drawing = DrawingProcesses(1)
    print(drawing._executor.submit(os.getpid).result(), flush=True)
    time.sleep(600)
"""
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
        start_new_session=True,
    ) as run:
        try:
            assert run.stdout is not None
            drawer = int(run.stdout.readline())
            run.kill()
            run.wait()
            deadline = time.monotonic() + 60
            while _runs(drawer) and time.monotonic() < deadline:
                time.sleep(0.1)
            assert not _runs(drawer)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(run.pid, signal.SIGKILL)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
