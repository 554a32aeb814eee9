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

from model import VGGT
from model.families.vggt.presets import PRESETS
from training import TrainingConfig
from training.objective import Objective
from training.parallel import flatten_weights, trainable, views

ROOT = Path(__file__).parents[2]


def test_parameters_become_views_of_one_buffer(tiny: TrainingConfig) -> None:
    parameters = trainable(Objective(VGGT(PRESETS[tiny.preset]), tiny.losses))
    before = [parameter.detach().clone() for parameter in parameters]
    flat = flatten_weights(parameters)
    assert flat.numel() == sum(parameter.numel() for parameter in parameters)
    assert all(torch.equal(a, b) for a, b in zip(parameters, before, strict=True))
    flat.zero_()
    assert not any(parameter.any() for parameter in parameters)
    assert [view.shape for view in views(parameters, flat)] == [
        parameter.shape for parameter in parameters
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes under /proc")
def test_a_killed_run_leaves_no_process_behind(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "quantization",
        "demo",
        "train",
        "--out",
        str(tmp_path),
        "--processes",
        "2",
    ]
    run = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL, start_new_session=True)
    children = Path(f"/proc/{run.pid}/task/{run.pid}/children")
    try:
        while len(_trainers(children)) < 1:
            assert run.poll() is None
            time.sleep(0.2)
        (child,) = _trainers(children)
        run.kill()
        run.wait()
        for _ in range(600):
            if not Path(f"/proc/{child}").exists() or _is_zombie(child):
                return
            time.sleep(0.1)
        raise AssertionError("the other part still runs a minute after its parent was killed")
    finally:
        with suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)


def _trainers(children: Path) -> list[int]:
    """Child processes that compute a part; multiprocessing's resource tracker is one too, but not
    of ours."""
    pids = [int(pid) for pid in children.read_text().split()] if children.exists() else []
    return [pid for pid in pids if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def _is_zombie(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
