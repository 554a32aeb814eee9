"""The measurement on a GPU, gone through without one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def _run(out: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = (sys.executable, "-m", "benchmarks.gpu", "--device", "cpu", "--out", str(out))
    return subprocess.run((*command, *arguments), cwd=ROOT, capture_output=True, text=True)


def _rows(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.slow
def test_a_step_that_is_ended_by_its_limit_leaves_the_others_their_results(tmp_path: Path) -> None:
    finished = _run(tmp_path, "--limit", "attention=0.1")
    assert finished.returncode == 1
    ends = [line.split(", ")[0] for line in finished.stdout.splitlines()]
    names = ("probe", "trial", "tests", "linear", "attention", "network", "numbers")
    assert ends[:7] == [
        f"== {name}: {'ended after 0.1 s' if name == 'attention' else 'ok'}" for name in names
    ]
    assert len(ends) == 9  # and both tools of the sanitizer
    assert len(list(tmp_path.iterdir())) <= 8
    assert {row["verdict"] for row in _rows(tmp_path / "trial.jsonl")} == {"ok"}
    assert {row["layer"] for row in _rows(tmp_path / "linear.jsonl")} == {
        "qkv", "proj", "fc1", "fc2"
    }  # fmt: skip
    assert {row["network"] for row in _rows(tmp_path / "network.jsonl") if "timings" in row} == {
        "W4A4", "float32 weights, as public", "bfloat16 weights"
    }  # fmt: skip


def test_a_step_that_does_not_exist_is_refused_with_those_that_do(tmp_path: Path) -> None:
    finished = _run(tmp_path, "--steps", "liner")
    assert finished.returncode == 2
    assert "there is no step 'liner'; expected one of probe, trial, tests" in finished.stderr
