"""Which passes go through graphs. What a graph is stood in for by a pass that runs again and writes
its values where the first one wrote them; CUDA's own are tested where there is a GPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields

import pytest
import torch
from torch import Tensor

from model.network.prediction import Prediction
from service.inference.graphs import (
    MOST_FRAMES,
    MOST_GRAPHS,
    Captured,
    Forward,
    PassGraphs,
    capture_for,
)


class Machine:
    """Captures passes that hold so many bytes each; counts what runs."""

    def __init__(self, bytes: int = 100) -> None:
        self.bytes, self.captures, self.replays = bytes, 0, 0
        self.error: RuntimeError | None = None

    def capture(self, run: Callable[[], Prediction]) -> Captured:
        self.captures += 1
        if self.error is not None:
            raise self.error
        static = run()

        def replay() -> Prediction:
            self.replays += 1
            made = run()
            for field in fields(Prediction):
                values = getattr(made, field.name)
                if values is not None:
                    getattr(static, field.name).copy_(values)
            return static

        return Captured(replay, self.bytes)


def double(images: Tensor) -> Prediction:
    return Prediction(depth=2 * images)


def images(side: int, frames: int = 1) -> Tensor:
    return torch.rand(frames, 3, side, side)


def ask(graphs: PassGraphs, given: Tensor, forward: Forward = double, expected: int = 100) -> bool:
    """Whether the pass came from a graph; if so, its values are those of the pass."""
    done = graphs.run(given.shape, given, forward, expected)
    if done is None:
        return False
    depth = done[0].depth
    assert depth is not None
    assert torch.equal(depth, 2 * given)
    return True


def test_a_shape_that_comes_again_is_captured_once_and_replayed_with_new_pictures() -> None:
    machine = Machine()
    graphs = PassGraphs(machine.capture, 10**6)
    assert [ask(graphs, images(8)) for _ in range(4)] == [False, True, True, True]
    assert (machine.captures, machine.replays) == (1, 3)
    assert graphs.held == machine.bytes + images(8).nbytes


def test_the_bytes_that_a_pass_holds_are_those_of_its_graph() -> None:
    graphs = PassGraphs(Machine().capture, 10**6)
    ask(graphs, images(8))
    done = graphs.run(images(8).shape, images(8), double, 100)
    assert done is not None
    assert done[1] == graphs.held


def test_passes_of_one_shape_that_differ_otherwise_have_graphs_of_their_own() -> None:
    graphs = PassGraphs(Machine().capture, 10**6)
    given = images(8)
    for keys in (None, 100):
        assert graphs.run((given.shape, keys), given, double, 100) is None
    assert graphs.run((given.shape, None), given, double, 100) is not None
    done = graphs.run((given.shape, 100), given, lambda x: Prediction(depth=3 * x), 100)
    assert done is not None
    assert done[0].depth is not None
    assert torch.equal(done[0].depth, 3 * given)


def test_what_was_used_longest_ago_makes_room_in_number() -> None:
    machine = Machine()
    graphs = PassGraphs(machine.capture, 10**9)
    sides = range(4, 4 + MOST_GRAPHS)
    for side in sides:
        ask(graphs, images(side))
        assert ask(graphs, images(side))
    assert ask(graphs, images(4))  # used again: the second is now the oldest
    ask(graphs, images(30))
    assert ask(graphs, images(30))
    captures = machine.captures
    assert ask(graphs, images(4))
    assert machine.captures == captures
    assert ask(graphs, images(5))
    assert machine.captures == captures + 1


def test_all_graphs_together_hold_no_more_than_they_may() -> None:
    machine = Machine(bytes=4000)
    graphs = PassGraphs(machine.capture, 10_000)
    for side in (4, 5, 6, 7):
        ask(graphs, images(side), expected=4000)
        assert ask(graphs, images(side), expected=4000)
        assert graphs.held <= 10_000
    machine.bytes = 20_000  # more than was expected
    ask(graphs, images(8), expected=4000)
    assert not ask(graphs, images(8), expected=4000)
    assert graphs.held == 0


def test_a_pass_that_is_expected_to_hold_too_much_is_not_captured() -> None:
    machine = Machine()
    graphs = PassGraphs(machine.capture, 10_000)
    assert [ask(graphs, images(8), expected=10_001) for _ in range(3)] == [False] * 3
    assert machine.captures == 0


def test_many_pictures_are_not_captured() -> None:
    machine = Machine()
    graphs = PassGraphs(machine.capture, 10**9)
    assert not any(ask(graphs, images(4, MOST_FRAMES + 1)) for _ in range(3))
    ask(graphs, images(4, MOST_FRAMES))
    assert ask(graphs, images(4, MOST_FRAMES))


def test_a_pass_that_no_graph_can_hold_ends_all_graphs_and_the_reason_is_kept() -> None:
    machine = Machine()
    graphs = PassGraphs(machine.capture, 10**6)
    ask(graphs, images(8))
    assert ask(graphs, images(8))
    machine.error = RuntimeError("CUDA error: operation not permitted\nCompile with ...")
    ask(graphs, images(9))
    assert not ask(graphs, images(9))
    assert graphs.refusal == "CUDA error: operation not permitted"
    assert graphs.held == 0
    assert not ask(graphs, images(8))
    assert machine.captures == 2


def test_memory_is_given_back_when_asked_for() -> None:
    graphs = PassGraphs(Machine().capture, 10**6)
    ask(graphs, images(8))
    assert ask(graphs, images(8))
    graphs.clear()
    assert graphs.held == 0
    assert ask(graphs, images(8))


def test_a_cpu_has_no_graphs_and_keeps_no_memory_for_them() -> None:
    assert capture_for(torch.device("cpu")) is None
    graphs = PassGraphs(None, 10**6)
    assert graphs.allowance == 0
    assert not any(ask(graphs, images(8)) for _ in range(3))


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")
@torch.inference_mode()
def test_a_gpu_captures_replays_and_gives_memory_back() -> None:
    capture = capture_for(torch.device("cuda", 0))
    graphs = PassGraphs(capture, 2**30)
    for _ in range(3):
        ask(graphs, images(64).cuda(), expected=2**20)
    assert ask(graphs, images(64).cuda(), expected=2**20)
    assert 0 < graphs.held < 2**30

    def synchronising(given: Tensor) -> Prediction:
        return Prediction(depth=given * given.sum().item())

    ask(graphs, images(32).cuda(), expected=2**20)
    assert not ask(graphs, images(32).cuda(), synchronising, expected=2**20)
    assert graphs.refusal is not None
    assert torch.ones(3, device="cuda").sum().item() == 3  # the device goes on
