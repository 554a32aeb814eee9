"""The files of one request's URLs while they fill side by side."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

import anyio
from starlette.datastructures import UploadFile

from service.errors import TooManyBytes

AT_ONCE = 4
"""How many URLs of one request are fetched at a time."""


class Batch:
    """Open files by their indices in the request, in rising order; `spent` of the request's bytes
    are used up already.

    It ends as if they were filled one after the other: with the error of the first one, by index,
    that fails. Those after it are given up and closed at once; those before it go on, for one of
    them may fail yet.
    """

    def __init__(self, files: Mapping[int, UploadFile], most_bytes: int, spent: int) -> None:
        self.files = files
        self._most_bytes = most_bytes
        self._spent = spent
        self._scopes = {index: anyio.CancelScope() for index in files}
        self._slots = anyio.Semaphore(AT_ONCE)
        self._filled: set[int] = set()
        self._error: Exception | None = None

    async def fill(self, work: Callable[[int], Awaitable[None]]) -> None:
        """Let `work(index)` fill the file at every index, a few at a time. Raises what it raises,
        or TooManyBytes."""
        async with anyio.create_task_group() as group:
            for index in self.files:
                group.start_soon(self._fill_one, index, work)
        if self._error is not None:
            raise self._error

    def left(self, index: int) -> int:
        """How many bytes the files before it leave to the file at `index`, as far as they are
        filled."""
        return (
            self._most_bytes
            - self._spent
            - sum(self._size(other) for other in self.files if other < index)
        )

    def check_room(self) -> None:
        """Give up the files from the first one on that has no room beside those before it."""
        left = self._most_bytes - self._spent
        for index in self.files:
            left -= self._size(index)
            if left < 0:
                self._fail(index, self.too_many_bytes())
                return

    def too_many_bytes(self) -> TooManyBytes:
        most = self._most_bytes
        return TooManyBytes(
            f"The request and what its URLs name have more than {most} bytes.", max_total_bytes=most
        )

    async def _fill_one(self, index: int, work: Callable[[int], Awaitable[None]]) -> None:
        scope = self._scopes[index]
        try:
            with scope:
                async with self._slots:
                    await work(index)
        except Exception as error:
            self._fail(index, error)
        self._filled.add(index)
        if scope.cancel_called:
            self.files[index].file.close()

    def _size(self, index: int) -> int:
        return self.files[index].size or 0

    def _fail(self, index: int, error: Exception) -> None:
        if self._scopes[index].cancel_called:
            return  # one before it has failed
        self._error = error
        for other, scope in self._scopes.items():
            if other >= index:
                scope.cancel()
                if other in self._filled:  # else it is closed once its work has ended
                    self.files[other].file.close()
