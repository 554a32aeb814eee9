"""Whatever happens to the refinement's process: the network's cameras with a reason, and nothing
left behind."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from refinement import process
from refinement.answer import read_answer
from refinement.dense.library import built_if_possible
from refinement.network import network_scene
from refinement.options import RefineOptions
from refinement.result import Refinement
from refinement.run import refine
from refinement.task import Task
from tests.refinement.rooms import Room

pytest.importorskip("pycolmap")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where scratch folders are made; empty afterwards, and no process is left."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []
    assert children(os.getpid()) == []


def children(parent: int) -> list[int]:
    """The refinement's processes of a process."""
    found = []
    for task in Path(f"/proc/{parent}/task").iterdir():
        found += [int(pid) for pid in (task / "children").read_text().split()]
    return [pid for pid in found if b"refinement.child" in command(pid)]  # or a test's


def command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def check_unrefined(answer: Refinement, room: Room, code: str) -> None:
    assert answer.reason is not None
    assert answer.reason.code == code
    assert answer.kept == 0
    assert answer.sparse is None
    for picture, extrinsic in zip(answer.pictures, room.network.extrinsics, strict=True):
        assert np.array_equal(picture.extrinsic, extrinsic.double().numpy())


def test_a_killed_process_leaves_the_networks_cameras(room: Room) -> None:
    def kill(stage: str, share: float) -> None:
        for pid in children(os.getpid()):
            os.kill(pid, signal.SIGKILL)

    answer = refine(room.photographs, room.network, report=kill)
    check_unrefined(answer, room, "crashed")
    assert answer.reason is not None
    assert "SIGKILL" in answer.reason.message


def test_a_process_that_aborts_as_colmap_does_is_a_reason(room: Room) -> None:
    def abort(stage: str, share: float) -> None:
        for pid in children(os.getpid()):
            os.kill(pid, signal.SIGABRT)

    answer = refine(room.photographs, room.network, "dense", report=abort)
    check_unrefined(answer, room, "crashed")
    assert answer.dense_reason == answer.reason


def test_dense_depth_that_is_ended_leaves_the_reason_why_the_cameras_stayed(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill(stage: str, share: float) -> None:
        if stage == "dense":
            for pid in children(os.getpid()):
                os.kill(pid, signal.SIGKILL)

    monkeypatch.setattr(process, "_MODULE", "tests.refinement.child_stuck_in_dense")
    answer = refine(room.photographs, room.network, "dense", report=kill)
    assert answer.reason is not None
    assert answer.reason.code == "already-supported"
    assert answer.dense is None
    assert answer.dense_reason is not None
    assert answer.dense_reason.code == "crashed"


def test_a_process_that_cannot_be_started_leaves_no_file_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*given: object, **named: object) -> None:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    before = os.listdir("/proc/self/fd")
    monkeypatch.setattr(subprocess, "Popen", refuse)
    with pytest.raises(OSError, match="Cannot allocate memory"):
        process.run_child(tmp_path, 10, 1 << 40, lambda stage, share: None)
    with pytest.raises(OSError, match="No such file"):  # where its log should be
        process.run_child(tmp_path / "nowhere", 10, 1 << 40, lambda stage, share: None)
    assert os.listdir("/proc/self/fd") == before


def test_a_process_that_takes_too_long_is_stopped(room: Room) -> None:
    answer = refine(room.photographs, room.network, options=RefineOptions(seconds=0.01))
    check_unrefined(answer, room, "time-limit")


def test_a_process_that_takes_too_much_memory_is_stopped(room: Room) -> None:
    answer = refine(room.photographs, room.network, options=RefineOptions(memory_bytes=20 << 20))
    check_unrefined(answer, room, "memory-limit")
    assert answer.peak_bytes > 20 << 20


def test_without_colmap_the_networks_cameras_stay(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pycolmap", None)
    check_unrefined(refine(room.photographs, room.network), room, "colmap-not-installed")


def test_a_report_that_raises_ends_the_process(room: Room) -> None:
    class CancelledError(Exception):
        pass

    def cancel(stage: str, share: float) -> None:
        if stage == "features":
            raise CancelledError

    with pytest.raises(CancelledError):
        refine(room.photographs, room.network, report=cancel)


def test_the_process_does_without_torch_where_the_matching_is_compiled(
    room: Room, tmp_path: Path
) -> None:
    matching = built_if_possible()
    if matching is None:
        pytest.skip("no C++ compiler")
    folder = tmp_path / "task"
    folder.mkdir()
    options = RefineOptions(threads=1, pixels=64)
    task = Task(room.photographs, network_scene(room.network), "dense", options, matching)
    task.write(folder)
    script = "import sys; from refinement.child import main; main(); print(*sys.modules)"
    reading, writing = os.pipe()
    with open(reading, "rb"), open(writing, "wb"):
        modules = subprocess.run(
            [sys.executable, "-c", script, str(folder), str(os.getpid()), str(writing)],
            check=True,
            capture_output=True,
            text=True,
            pass_fds=(writing,),
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        ).stdout.split()
    answer = read_answer(folder, room.photographs, options.memory_bytes)
    assert answer is not None
    assert answer.dense is not None
    assert "refinement.dense.native" in modules
    assert "torch" not in modules


def test_the_process_dies_with_the_one_that_started_it(room: Room, tmp_path: Path) -> None:
    folder = tmp_path / "task"
    folder.mkdir()
    Task(room.photographs, network_scene(room.network), "cameras", RefineOptions()).write(folder)
    script = (
        "import sys; from pathlib import Path; from refinement.process import run_child\n"
        "run_child(Path(sys.argv[1]), 100, 1 << 40, lambda stage, share: print('on', flush=True))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(folder)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        (child,) = children(parent.pid)
        parent.kill()
    deadline = time.monotonic() + 10
    while b"refinement.child" in command(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert b"refinement.child" not in command(child)
