"""Short passes in CUDA graphs: a pass over a few pictures is some thousand launches from Python,
which take longer than the GPU does; replayed, they are one.

A graph is of one shape, holds the memory that its pass takes, and is told nothing while it runs. So
only shapes that come again are captured, and only so many of them are kept.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass

import torch
from torch import Tensor

from model.network.prediction import Prediction

MOST_FRAMES = 8  # of a pass: with more of them the GPU has more to do than Python
MOST_GRAPHS = 8
SHARE = 8  # one part in so many of a pass's memory is for all graphs together
_SEEN = 64  # shapes that are remembered to have come once

Forward = Callable[[Tensor], Prediction]

_log = logging.getLogger("service")


@dataclass(frozen=True)
class Captured:
    """`replay` runs the pass again and returns the same tensors as before, with new values; `bytes`
    are held as long as this is."""

    replay: Callable[[], Prediction]
    bytes: int


Capture = Callable[[Callable[[], Prediction]], Captured]


class PassGraphs:
    """The graphs of a network's passes, the least recently used of which make room for new ones.

    They hold at most `allowance` bytes. `capture` makes them; None: there are none on this device.
    One pass runs at a time.
    """

    def __init__(self, capture: Capture | None, allowance: int) -> None:
        self.allowance = 0 if capture is None else allowance
        self.refusal: str | None = None
        self._capture = capture
        self._seen: OrderedDict[Hashable, None] = OrderedDict()
        self._kept: OrderedDict[Hashable, tuple[Tensor, Captured]] = OrderedDict()

    @property
    def held(self) -> int:
        """Bytes that the graphs hold."""
        return sum(images.nbytes + graph.bytes for images, graph in self._kept.values())

    def run(
        self, what: Hashable, images: Tensor, forward: Forward, expected: int
    ) -> tuple[Prediction, int] | None:
        """What `forward` gives for `images` `[S, 3, H, W]`, from a graph, and the bytes that it
        holds; None if this pass is to run without one.

        `what` says all that `forward` depends on beside the values of the images, `expected` about
        how many bytes it takes. The prediction's tensors are overwritten by the next one.
        """
        if self._capture is None or self.refusal is not None or len(images) > MOST_FRAMES:
            return None
        if what not in self._kept and not (
            self._comes_again(what) and self._add(what, images, forward, expected)
        ):
            return None
        self._kept.move_to_end(what)
        given, graph = self._kept[what]
        given.copy_(images)
        return graph.replay(), given.nbytes + graph.bytes

    def clear(self) -> None:
        """Gives all memory back."""
        self._kept.clear()

    def _comes_again(self, what: Hashable) -> bool:
        """Whether a pass like this has run before; what is made once has been made then."""
        again = what in self._seen
        self._seen[what] = None
        self._seen.move_to_end(what)
        if len(self._seen) > _SEEN:
            self._seen.popitem(last=False)
        return again

    def _add(self, what: Hashable, images: Tensor, forward: Forward, expected: int) -> bool:
        assert self._capture is not None
        if expected > self.allowance:
            return False
        self._make_room(self.allowance - expected, MOST_GRAPHS - 1)
        given = images.clone()
        try:
            graph = self._capture(lambda: forward(given))
        except RuntimeError as error:  # of torch and of CUDA, also for want of memory
            self.clear()
            self.refusal = str(error).strip().split("\n")[0]
            _log.warning("passes run without graphs from now on: %s", self.refusal)
            return False
        self._kept[what] = given, graph
        self._make_room(self.allowance, MOST_GRAPHS)
        return what in self._kept

    def _make_room(self, bytes: int, count: int) -> None:
        while self._kept and (self.held > bytes or len(self._kept) > count):
            self._kept.popitem(last=False)


def capture_for(device: torch.device) -> Capture | None:
    """What captures passes on `device`; None where there are no graphs."""
    if device.type != "cuda":
        return None
    return lambda run: _captured(run, device)


def _captured(run: Callable[[], Prediction], device: torch.device) -> Captured:
    """`run` in a CUDA graph; runs once before, since what is made at a stream's first use can't be
    captured. Raises RuntimeError if it does something that no graph can hold."""
    side = torch.cuda.Stream(device)
    side.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(side):
        run()
    torch.cuda.synchronize(device)
    torch.cuda.empty_cache()
    before = torch.cuda.memory_reserved(device)
    graph = torch.cuda.CUDAGraph()
    # other threads may allocate meanwhile
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        made = run()
    held = max(0, torch.cuda.memory_reserved(device) - before)

    def replay() -> Prediction:
        graph.replay()
        return made

    return Captured(replay, held)
