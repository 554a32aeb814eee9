"""Scenes drawn ahead in processes of their own, for a device that renders faster than one core can
draw."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import Future, ProcessPoolExecutor

import torch

from scenes.synthetic.generator import DrawnScenes, SceneRequest, draw_scenes, join_drawn
from training.parent import end_with_parent


class DrawingProcesses:
    """Draws requests in pieces, one a process; what was asked for ahead is ready when it is
    taken."""

    def __init__(self, processes: int) -> None:
        self._processes = processes
        self._executor = ProcessPoolExecutor(
            processes, multiprocessing.get_context("spawn"), _start
        )
        self._ahead: dict[SceneRequest, list[Future[DrawnScenes]]] = {}

    def ask(self, request: SceneRequest) -> None:
        """Begins to draw `request`."""
        if request not in self._ahead:
            pieces = (request.part(part, self._processes) for part in range(self._processes))
            self._ahead[request] = [
                self._executor.submit(draw_scenes, piece) for piece in pieces if piece is not None
            ]

    def take(self, request: SceneRequest) -> DrawnScenes:
        """The scenes of `request`, asked for before or not; what else was asked for and not taken
        is dropped."""
        self.ask(request)
        futures = self._ahead.pop(request)
        for dropped in self._ahead.values():
            for future in dropped:
                future.cancel()
        self._ahead.clear()
        return join_drawn([future.result() for future in futures])

    def close(self) -> None:
        self._executor.shutdown(cancel_futures=True)


def _start() -> None:
    end_with_parent()
    torch.set_num_threads(1)
