"""The native code against the same in plain torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kernels.cpu.build import BuildError
from refinement.dense.library import built
from refinement.dense.native import NativeMatcher
from refinement.dense.problem import Geometry, Problem
from refinement.dense.torch_matcher import TorchMatcher
from refinement.dense.views import load
from tests.refinement.dense.surfaces import plane, take


@pytest.fixture(scope="module")
def native() -> NativeMatcher:
    try:
        return NativeMatcher(built(), threads=2)
    except BuildError as error:
        pytest.skip(str(error))


def _problem(folder: Path) -> Problem:
    taken = take(
        folder,
        plane((0.3, 0.2, 1.0), 3.0),
        ((-0.4, 0, 0), (0.4, 0, 0), (0, 0.4, 0)),
        size=(30, 40),
        focal=40.0,
        distortion=-0.1,
    )
    views = [load(*pair, 40) for pair in zip(taken.photographs, taken.pictures, strict=True)]
    rng = np.random.default_rng(0)
    planes = rng.normal(0, 0.1, (3, 30, 40)) + np.array([0.1, 0.06, 0.33])[:, None, None]
    return Problem(
        views[0], views[1:], planes.astype(np.float32), np.zeros((30, 40), np.float32), 0.1, 1.0, 7
    )


def _geometry(problem: Problem) -> Geometry:
    depths = [np.full((30, 40), inverse, np.float32) for inverse in (0.33, 0.3)]
    depths[1][:, :20] = 0
    return Geometry(depths)


@pytest.mark.parametrize("agreeing", [False, True])
def test_both_give_a_plane_the_same_cost(
    tmp_path: Path, native: NativeMatcher, agreeing: bool
) -> None:
    problem = _problem(tmp_path)
    geometry = _geometry(problem) if agreeing else None
    costs = native.score(problem, geometry)
    expected = TorchMatcher().score(problem, geometry)
    assert 0.3 < (expected < 1.5).mean() < 1  # some are seen, some are not
    np.testing.assert_allclose(costs, expected, atol=2e-3)


@pytest.mark.parametrize("agreeing", [False, True])
def test_both_find_the_same_planes(tmp_path: Path, native: NativeMatcher, agreeing: bool) -> None:
    ours, theirs = _problem(tmp_path), _problem(tmp_path)
    geometry = _geometry(ours) if agreeing else None
    for matcher, problem in ((native, ours), (TorchMatcher(), theirs)):
        matcher.rate(problem, geometry)
        matcher.improve(problem, 1, wild=True, geometry=geometry)
        assert (problem.inverse_depth >= problem.least_inverse).mean() > 0.9
    # rounding decides between planes of nearly equal cost
    differ = np.abs(ours.planes - theirs.planes).max(0) > 1e-3
    assert differ.mean() < 0.03
    np.testing.assert_allclose(ours.cost.mean(), theirs.cost.mean(), rtol=1e-2)


@pytest.mark.usefixtures("native")
def test_improving_does_not_depend_on_the_number_of_threads(tmp_path: Path) -> None:
    results = []
    for threads in (1, 3):
        problem = _problem(tmp_path)
        matcher = NativeMatcher(built(), threads)
        matcher.rate(problem)
        matcher.improve(problem, 1, wild=True)
        results.append(problem)
    np.testing.assert_array_equal(results[0].planes, results[1].planes)
    np.testing.assert_array_equal(results[0].cost, results[1].cost)


_FEWER_THREADS_THAN_WISHED = """
import resource
import sys
from pathlib import Path

from refinement.dense.library import built
from refinement.dense.native import NativeMatcher
from tests.refinement.dense.test_matchers import _problem

problem, library = _problem(Path(sys.argv[1])), built()
NativeMatcher(library, threads=1).rate(problem)
expected = problem.cost.copy()
problem.cost[:] = -1
present = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (present + (32 << 20),) * 2)  # stacks are megabytes each
NativeMatcher(library, threads=24).rate(problem)
print((problem.cost == expected).all())
"""


@pytest.mark.usefixtures("native")
@pytest.mark.skipif(sys.platform != "linux", reason="bounds memory as Linux does")
def test_threads_that_cannot_start_leave_their_rows_to_the_others(tmp_path: Path) -> None:
    finished = subprocess.run(
        [sys.executable, "-c", _FEWER_THREADS_THAN_WISHED, str(tmp_path)],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
    )
    assert (finished.returncode, finished.stdout) == (0, "True\n"), finished.stderr
