from __future__ import annotations

import asyncio
import threading
import time

from service.jobs.events import Event, Events


async def _collect(events: Events, id: str, after: int = 0) -> list[Event]:
    return [event async for event in events.follow(id, after, None) if event is not None]


def _history(events: Events, id: str) -> list[Event]:
    return list(events._channels[id].history)


def _run(events: Events, id: str, after: int = 0) -> list[Event]:
    async def run() -> list[Event]:
        events.attach(asyncio.get_running_loop())
        return await asyncio.wait_for(_collect(events, id, after), 10)

    return asyncio.run(run())


def test_numbers_rise_and_a_reader_goes_on_after_the_last_one_it_saw() -> None:
    events = Events()
    for stage in ("decode", "aggregator", "heads"):
        events.publish("a", "progress", {"stage": stage})
    events.publish("a", "end", {"state": "succeeded"})
    seen = _run(events, "a")
    numbers = [event.number for event in seen]
    assert numbers == sorted(set(numbers))
    assert [event.data.get("stage") for event in seen] == ["decode", "aggregator", "heads", None]
    assert _run(events, "a", after=numbers[1]) == seen[2:]


def test_what_another_replica_recorded_comes_under_its_own_number_and_once() -> None:
    events = Events()
    for number in (7, 7, 5):
        events.publish("a", "progress", {"stage": "heads"}, number=number)
    # it was thinned out where it comes from
    events.publish("a", "progress", {"stage": "heads"}, number=8)
    assert [event.number for event in _history(events, "a")] == [7, 8]


def test_a_job_that_is_taken_up_elsewhere_goes_on_above_the_number_on_record() -> None:
    events = Events()
    ahead = int(1000 * time.time()) + 5000  # the other replica's clock is fast
    events.publish("a", "state", {"state": "running"}, number=ahead)
    events.publish("a", "progress", {"stage": "heads"})
    assert [event.number for event in _history(events, "a")] == [ahead, ahead + 1]
    assert (events.last_number("a"), events.last_number("b")) == (ahead + 1, 0)


def test_nothing_follows_an_end() -> None:
    events = Events()
    events.publish("a", "end", {"state": "succeeded"})
    events.publish("a", "end", {"state": "failed"}, number=2**60)
    assert [event.data["state"] for event in _history(events, "a")] == ["succeeded"]


def test_readers_of_a_job_that_goes_are_sent_home() -> None:
    events = Events()

    async def run() -> Event | None:
        events.attach(asyncio.get_running_loop())
        waiting = asyncio.create_task(events.wait_for_end("a", 10))
        await asyncio.sleep(0.01)
        assert events.awaited() == {"a"}
        events.dismiss("a")
        return await waiting

    assert asyncio.run(run()) is None
    assert events.awaited() == set()


def test_the_history_of_a_job_that_is_followed_is_never_given_up() -> None:
    events = Events()

    async def run() -> Event | None:
        events.attach(asyncio.get_running_loop())
        waiting = asyncio.create_task(events.wait_for_end("a", 10))
        await asyncio.sleep(0.01)
        for other in range(1000):
            events.publish(str(other), "state", {})
        events.publish("a", "end", {"state": "succeeded"})
        return await waiting

    assert asyncio.run(run()) is not None
    assert len(events._channels) <= 257


def test_what_is_published_from_another_thread_reaches_every_reader() -> None:
    events = Events()

    async def run() -> list[list[Event]]:
        events.attach(asyncio.get_running_loop())
        readers = [asyncio.create_task(_collect(events, "a")) for _ in range(3)]
        await asyncio.sleep(0.01)

        def publish() -> None:
            for index in range(200):
                events.publish("a", "state", {"index": index})
            events.publish("a", "end", {})

        threading.Thread(target=publish).start()
        return await asyncio.wait_for(asyncio.gather(*readers), 10)

    for seen in asyncio.run(run()):
        assert [event.data.get("index") for event in seen] == [*range(200), None]


def test_progress_within_a_stage_is_thinned_out_and_stages_are_not() -> None:
    events = Events()
    for share in range(100):
        events.publish("a", "progress", {"stage": "aggregator", "progress": share / 100})
    events.publish("a", "progress", {"stage": "heads", "progress": 1})
    events.publish("a", "end", {})
    seen = _run(events, "a")
    assert len(seen) < 20
    assert [event.data.get("stage") for event in seen][-2:] == ["heads", None]


def test_silence_is_broken_by_heartbeats_and_ended_by_a_shutdown() -> None:
    events = Events()

    async def run() -> int:
        events.attach(asyncio.get_running_loop())
        beats = 0
        async for event in events.follow("a", 0, 0.01):
            assert event is None
            beats += 1
            if beats == 3:
                events.close()
        return beats

    assert asyncio.run(run()) in (3, 4)


def test_waiting_for_an_end_gives_up_after_its_time() -> None:
    events = Events()

    async def run() -> tuple[Event | None, Event | None]:
        events.attach(asyncio.get_running_loop())
        nothing = await events.wait_for_end("a", 0.01)
        events.publish("a", "end", {"state": "failed"})
        return nothing, await events.wait_for_end("a", 5)

    nothing, end = asyncio.run(run())
    assert nothing is None
    assert end is not None
    assert end.data == {"state": "failed"}
