from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from service.application import Application
from service.errors import InvalidOption, NotFinished, NotFound, QueueFull
from service.inference.engine import Engine
from service.inference.models import Models
from service.inputs.body import SentFile, Upload
from service.inputs.options import read_options
from service.intake import DryRun, Submitted, Terms
from service.jobs.events import Event
from service.settings import Settings
from service.states import JobState
from tests.service.pictures import encode, make_picture
from tests.service.running import Gate, wait_until

Run = Callable[[Callable[[Application], Awaitable[None]]], None]


@pytest.fixture
def run(artifact: Path, tmp_path: Path) -> Run:
    """Runs a coroutine on an application whose passes wait until the test lets them go."""

    def run(act: Callable[[Application], Awaitable[None]]) -> None:
        async def whole() -> None:
            settings = Settings.of(
                artifact=artifact, data_dir=tmp_path, queue_limit=1, shutdown_timeout=1
            )
            application = Application(settings, Models.of(settings, Gate))
            await application.start()
            try:
                while not application.models.usual.ready:
                    await asyncio.sleep(0.01)
                await act(application)
            finally:
                gate(application).opened.set()
                await application.stop()

        asyncio.run(whole())

    return run


def gate(application: Application) -> Gate:
    assert isinstance(application.models.usual, Gate)
    return application.models.usual


@asynccontextmanager
async def upload(seed: int = 0, **options: str) -> AsyncIterator[Upload]:
    file = io.BytesIO(encode(make_picture(seed=seed)))
    yield Upload((SentFile("a.png", file),), (), options)


async def submit(application: Application, seed: int = 0, **terms: Any) -> Submitted:
    submitted = await application.submissions.submit(upload(seed), {}, Terms(**terms))
    assert isinstance(submitted, Submitted)
    return submitted


def test_a_front_end_submits_waits_and_has_the_result(run: Run) -> None:
    async def act(application: Application) -> None:
        gate(application).opened.set()
        submitted = await submit(application)
        job, timings = await application.reconstructions.wait(submitted, None)
        assert (job.state, submitted.known) == (JobState.SUCCEEDED, False)
        assert {"upload", "aggregator", "store"} <= set(timings)
        assert len(application.reconstructions.result(job).pictures) == 1
        again = await submit(application)
        assert (again.job.id, again.known) == (job.id, True)
        assert application.reconstructions.finished(Terms().client, job.id) == job
        assert application.reconstructions.remove(Terms().client, job.id) is None
        with pytest.raises(NotFound):
            application.reconstructions.find(Terms().client, job.id)

    run(act)


def test_options_beside_the_upload_count_and_its_own_win(run: Run) -> None:
    async def act(application: Application) -> None:
        dry = await application.submissions.submit(upload(dry_run="true"), {"mode": "pad"}, Terms())
        assert isinstance(dry, DryRun)
        assert dry.plan["network_size"] == {"height": 96, "width": 96}
        with pytest.raises(InvalidOption, match="mode"):
            await application.submissions.submit(upload(mode="odd"), {"mode": "pad"}, Terms())
        assert application.under_way() == 0

    run(act)


def test_who_waits_for_a_time_gets_the_job_as_it_is_then(run: Run) -> None:
    async def act(application: Application) -> None:
        submitted = await submit(application)
        job, _ = await application.reconstructions.wait(submitted, 0.05)
        assert not job.ended
        with pytest.raises(NotFinished):
            application.reconstructions.finished(Terms().client, job.id)
        assert application.reconstructions.status(job).queue_position in (0, None)

    run(act)


def test_a_job_is_followed_to_its_end_and_an_ended_one_tells_its_end(run: Run) -> None:
    async def act(application: Application) -> None:
        submitted = await submit(application)
        gate(application).opened.set()
        events = [event async for event in application.reconstructions.follow(submitted.job, 0)]
        kinds = [event.kind for event in events if event is not None]
        assert (kinds[0], kinds[-1]) == ("state", "end")
        job, _ = await application.reconstructions.wait(submitted, None)
        (end,) = [event async for event in application.reconstructions.follow(job, 0)]
        assert isinstance(end, Event)
        assert end.data["state"] == JobState.SUCCEEDED
        assert [event async for event in application.reconstructions.follow(job, end.number)] == []

    run(act)


def test_who_goes_away_while_waiting_takes_the_job_along(run: Run) -> None:
    async def act(application: Application) -> None:
        submitted = await submit(application)
        waiting = asyncio.create_task(application.reconstructions.wait(submitted, None))
        await asyncio.sleep(0.05)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await asyncio.to_thread(wait_until, lambda: ended(application, submitted))

    def ended(application: Application, submitted: Submitted) -> bool:
        found = application.store.get(submitted.job.id)
        return found is not None and found.state == JobState.CANCELLED

    run(act)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("detached", [False, True])
def test_who_goes_away_while_the_job_is_recorded_takes_it_along_unless_detached(
    run: Run, monkeypatch: pytest.MonkeyPatch, when: str, detached: bool
) -> None:
    async def act(application: Application) -> None:
        reached, go = threading.Event(), threading.Event()
        add = application.store.add

        def slow(*arguments: Any) -> Any:
            added = None if when == "before" else add(*arguments)
            reached.set()
            assert go.wait(10)
            return added or add(*arguments)

        monkeypatch.setattr(application.store, "add", slow)
        asking = asyncio.create_task(submit(application, detached=detached))
        await asyncio.to_thread(reached.wait, 10)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        go.set()
        await asyncio.to_thread(wait_until, lambda: settled(application))
        assert application._admission.uploads() == 0

    def settled(application: Application) -> bool:
        (job,) = application.store.page("", 10, None, None) or (None,)
        if job is None:
            return False
        return job.state == (JobState.RUNNING if detached else JobState.CANCELLED)

    run(act)


def test_who_goes_away_while_pictures_are_decoded_leaves_nothing(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def act(application: Application) -> None:
        reached, go, over = threading.Event(), threading.Event(), threading.Event()
        prepare = application.submissions.prepare

        def slow(*arguments: Any) -> Any:
            prepared = prepare(*arguments)
            reached.set()
            assert go.wait(10)
            over.set()
            return prepared

        monkeypatch.setattr(application.submissions, "prepare", slow)
        asking = asyncio.create_task(submit(application, detached=True))
        await asyncio.to_thread(reached.wait, 10)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert application._admission.uploads() == 0
        go.set()
        assert await asyncio.to_thread(over.wait, 10)
        await asyncio.sleep(0.1)
        assert application.store.page("", 10, None, None) == []

    run(act)


def test_requests_that_are_being_read_count_for_the_queue(run: Run) -> None:
    async def act(application: Application) -> None:
        arrived, go = asyncio.Event(), asyncio.Event()

        @asynccontextmanager
        async def trickling() -> AsyncIterator[Upload]:
            arrived.set()
            await go.wait()
            async with upload() as sent:
                yield sent

        reading = [
            asyncio.create_task(application.submissions.submit(trickling(), {}, Terms()))
            for _ in range(2)
        ]
        await arrived.wait()
        while application.under_way() < 2:
            await asyncio.sleep(0.01)
        with pytest.raises(QueueFull):
            await submit(application)
        go.set()
        await asyncio.gather(*reading)

    run(act)


def test_an_application_that_was_not_started_reconstructs_at_once(
    artifact: Path, tmp_path: Path
) -> None:
    settings = Settings.of(artifact=artifact, data_dir=tmp_path)
    application = Application(settings, Models.of(settings, Engine))
    try:
        sent = SentFile("a.png", io.BytesIO(encode(make_picture())))
        scene = application.submissions.prepare(Upload((sent,), (), {}), read_options({}))
        application.models.usual.load()
        stages: list[str] = []
        result = application.run(scene, lambda stage, share, *found: stages.append(stage))
        assert application.storage.result(result).pictures[0].filename == "a.png"
        assert stages[-1] == "export"
    finally:
        application.close()
