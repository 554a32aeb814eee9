"""The service over HTTP: submit pictures, follow the work, download files, resume.

What is said is in `conversation`; `Client` and `AsyncClient` differ in how they do it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import aclosing, closing
from pathlib import Path
from typing import Any

import httpx

from quantvggt.conversation import Conversation, Exchange, Pictures, Service, T, checked, ignore
from quantvggt.errors import ServiceError
from quantvggt.files import DEFAULT
from quantvggt.result import Result
from quantvggt.transfer import Progress


class Client(Service):
    """Talks to the service at `server`, for example http://127.0.0.1:8000.

    `timeout` are seconds without a byte, not those that a reconstruction may take. Every method
    raises ServiceError if the service refuses, fails or can't be reached, and BadInputError for
    what can't be meant.
    """

    def reconstruct(
        self,
        pictures: Pictures,
        *,
        outputs: Sequence[str] = DEFAULT,
        progress: Progress = ignore,
        **options: Any,
    ) -> Result:
        """Send pictures, wait, and download the files that match `outputs`.

        `pictures` are files, folders, shell patterns, archives, videos, or URLs for the service to
        fetch; `options` those of the request, such as ``confidence=50`` or ``mode="crop"``.
        """
        return self._hold(self._reconstructing(pictures, options, outputs, progress))

    def submit(
        self,
        pictures: Pictures,
        options: Mapping[str, Any] | None = None,
        *,
        key: str | None = None,
        progress: Progress = ignore,
    ) -> str:
        """Send pictures; returns the reconstruction's id at once.

        The same `key` with the same files and options gives the same reconstruction, however often
        it is sent, until that fails or is cancelled: then the next one begins.
        """
        return self._hold(self._submitting(pictures, options or {}, key, progress))

    def predict(
        self,
        pictures: Pictures,
        options: Mapping[str, Any] | None = None,
        *,
        progress: Progress = ignore,
    ) -> dict[str, Any]:
        """What a reconstruction would take, without one: predicted seconds and bytes, passes, and
        warnings."""
        return self._hold(self._predicting(pictures, options or {}, progress))

    def follow(self, id: str, progress: Progress = ignore) -> None:
        """Report progress until the reconstruction has ended, well or not, across broken
        connections."""
        self._hold(self._following(id, progress))

    def document(self, id: str) -> dict[str, Any]:
        """A finished reconstruction's document. Raises ServiceError with the reason if there is
        none."""
        return self._hold(self._describing(id))

    def download(
        self,
        id: str,
        folder: str | Path,
        outputs: Sequence[str] = DEFAULT,
        progress: Progress = ignore,
    ) -> dict[str, Any]:
        """Write the files of a finished reconstruction that match `outputs` to `folder`, in place
        of an older result.

        Returns the document as it is written there.
        """
        return self._hold(self._downloading(id, Path(folder), outputs, progress))

    def start_batch(
        self, scenes: Sequence[Mapping[str, Any]], options: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Put a table of scenes on record, each with a `name` and, if the service is to fetch them,
        `urls`; returns the batch. `options` are those of every scene, which may have its own."""
        return self._hold(self._starting(scenes, options or {}))

    def send_scene(
        self, id: str, number: int, pictures: Pictures, *, progress: Progress = ignore
    ) -> dict[str, Any]:
        """Send the pictures of a batch's scene that has no URLs; returns the batch. What is under
        way or done stays as it is."""
        return self._hold(self._completing(id, number, pictures, progress))

    def batch(self, id: str) -> dict[str, Any]:
        """A batch as it is now: its scenes, their states, and how much is done."""
        return self._hold(self._asking_for_batch(id))

    def retry_batch(self, id: str) -> dict[str, Any]:
        """Begin those scenes anew that have ended without a result; returns the batch."""
        return self._hold(self._beginning_anew(id))

    def wait_until_ready(self, seconds: float) -> None:
        """Wait for the model to be loaded. Raises ServiceError with the last reason when the time
        is up."""
        self._hold(self._waiting(seconds))

    def _hold(self, conversation: Conversation[T]) -> T:
        with httpx.Client(**self._settings) as http:
            try:
                step = next(conversation)
                while True:
                    try:
                        if isinstance(step, float):
                            time.sleep(step)
                            step = next(conversation)
                            continue
                        answer = self._exchange(http, step)
                    except ServiceError as error:
                        step = conversation.throw(error)
                    else:
                        step = conversation.send(answer)
            except StopIteration as end:
                result: T = end.value
                return result
            finally:
                conversation.close()

    def _exchange(self, http: httpx.Client, step: Exchange) -> httpx.Response:
        with self._reachable():
            response = http.send(step.request, stream=True)
            with closing(response):
                if step.consume is None or not response.is_success:
                    response.read()
                else:
                    for chunk in response.iter_bytes():
                        step.consume(chunk)
        return checked(response)


class AsyncClient(Service):
    """`Client` for asyncio: the same methods, to be awaited. `progress` is called from the event
    loop."""

    async def reconstruct(
        self,
        pictures: Pictures,
        *,
        outputs: Sequence[str] = DEFAULT,
        progress: Progress = ignore,
        **options: Any,
    ) -> Result:
        """As `Client.reconstruct`."""
        return await self._hold(self._reconstructing(pictures, options, outputs, progress))

    async def submit(
        self,
        pictures: Pictures,
        options: Mapping[str, Any] | None = None,
        *,
        key: str | None = None,
        progress: Progress = ignore,
    ) -> str:
        """As `Client.submit`."""
        return await self._hold(self._submitting(pictures, options or {}, key, progress))

    async def predict(
        self,
        pictures: Pictures,
        options: Mapping[str, Any] | None = None,
        *,
        progress: Progress = ignore,
    ) -> dict[str, Any]:
        """As `Client.predict`."""
        return await self._hold(self._predicting(pictures, options or {}, progress))

    async def follow(self, id: str, progress: Progress = ignore) -> None:
        """As `Client.follow`."""
        await self._hold(self._following(id, progress))

    async def document(self, id: str) -> dict[str, Any]:
        """As `Client.document`."""
        return await self._hold(self._describing(id))

    async def download(
        self,
        id: str,
        folder: str | Path,
        outputs: Sequence[str] = DEFAULT,
        progress: Progress = ignore,
    ) -> dict[str, Any]:
        """As `Client.download`."""
        return await self._hold(self._downloading(id, Path(folder), outputs, progress))

    async def start_batch(
        self, scenes: Sequence[Mapping[str, Any]], options: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """As `Client.start_batch`."""
        return await self._hold(self._starting(scenes, options or {}))

    async def send_scene(
        self, id: str, number: int, pictures: Pictures, *, progress: Progress = ignore
    ) -> dict[str, Any]:
        """As `Client.send_scene`."""
        return await self._hold(self._completing(id, number, pictures, progress))

    async def batch(self, id: str) -> dict[str, Any]:
        """As `Client.batch`."""
        return await self._hold(self._asking_for_batch(id))

    async def retry_batch(self, id: str) -> dict[str, Any]:
        """As `Client.retry_batch`."""
        return await self._hold(self._beginning_anew(id))

    async def wait_until_ready(self, seconds: float) -> None:
        """As `Client.wait_until_ready`."""
        await self._hold(self._waiting(seconds))

    async def _hold(self, conversation: Conversation[T]) -> T:
        async with httpx.AsyncClient(**self._settings) as http:
            try:
                step = next(conversation)
                while True:
                    try:
                        if isinstance(step, float):
                            await asyncio.sleep(step)
                            step = next(conversation)
                            continue
                        answer = await self._exchange(http, step)
                    except ServiceError as error:
                        step = conversation.throw(error)
                    else:
                        step = conversation.send(answer)
            except StopIteration as end:
                result: T = end.value
                return result
            finally:
                conversation.close()

    async def _exchange(self, http: httpx.AsyncClient, step: Exchange) -> httpx.Response:
        with self._reachable():
            response = await http.send(step.request, stream=True)
            async with aclosing(response):
                if step.consume is None or not response.is_success:
                    await response.aread()
                else:
                    async for chunk in response.aiter_bytes():
                        step.consume(chunk)
        return checked(response)
