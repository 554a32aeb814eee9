"""Work on a few threads, shared fairly among those who ask for it."""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")

_REMEMBERED = 100  # clients


class FairPool:
    """`threads` threads. Whoever has least running comes first, then whoever's last turn is longest
    ago, so that one client with much to do delays the others by one piece of work at most."""

    def __init__(self, threads: int, name: str) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._waiting: dict[str, deque[tuple[Future[Any], Callable[[], Any]]]] = {}
        self._turns: OrderedDict[str, None] = OrderedDict()  # clients, the latest one last
        self._running: Counter[str] = Counter()
        self._guard = threading.Lock()

    def submit(self, client: str, work: Callable[[], T]) -> Future[T]:
        """Do `work` when it is the turn of `client`."""
        future: Future[T] = Future()
        with self._guard:
            self._waiting.setdefault(client, deque()).append((future, work))
        self._pool.submit(self._next)
        return future

    def shutdown(self) -> None:
        """End what runs; what waits is cancelled."""
        with self._guard:
            waiting = [future for queue in self._waiting.values() for future, _ in queue]
            self._waiting.clear()
        for future in waiting:
            future.cancel()
        self._pool.shutdown()

    def _next(self) -> None:
        with self._guard:
            if not self._waiting:
                return  # it was cancelled
            order = {name: turn for turn, name in enumerate(self._turns, 1)}
            client = min(self._waiting, key=lambda name: (self._running[name], order.get(name, 0)))
            future, work = self._waiting[client].popleft()
            self._turns[client] = None
            self._turns.move_to_end(client)
            if len(self._turns) > _REMEMBERED:
                self._turns.popitem(last=False)
            if not self._waiting[client]:
                del self._waiting[client]
            self._running[client] += 1
        try:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(work())
                except BaseException as error:
                    future.set_exception(error)
        finally:
            with self._guard:
                self._running[client] -= 1
                if not self._running[client]:
                    del self._running[client]
