from __future__ import annotations

import asyncio
import json
import pickle
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from model.preprocess import preprocess_images
from model.scene.preprocess import PreprocessedImages
from service.inference.engine import Engine
from service.inference.network_pass import Pass
from service.ray.replica import Replica
from service.ray.transport import Done, Order, Progress, Refused
from service.settings import InferenceSettings
from tests.service.pictures import make_picture
from tests.service.running import Gate, wait_until


@pytest.fixture(scope="module")
def replica(artifact: Path) -> Replica:
    return Replica(InferenceSettings(artifact=artifact))


@pytest.fixture(scope="module")
def batch(artifact: Path) -> PreprocessedImages:
    return preprocess_images([make_picture(seed=seed) for seed in range(2)], "fit", 96, 12)


def answers(replica: Replica, order: Order) -> list[Any]:
    async def gathered() -> list[Any]:
        return [answer async for answer in replica.infer(order)]

    return asyncio.run(gathered())


def test_a_pass_is_that_of_the_local_engine_bit_for_bit(
    replica: Replica, artifact: Path, batch: PreprocessedImages
) -> None:
    engine = Engine(InferenceSettings(artifact=artifact))
    engine.load()
    here = engine.infer(batch, describe=True)
    *progress, done = answers(replica, Order.of(batch, None, describe=True))
    assert isinstance(done, Done)
    there = done.to_pass(batch.transforms)
    for name in (
        "extrinsics",
        "original_intrinsics",
        "depth",
        "depth_conf",
        "world_points",
        "colors",
        "mask",
    ):
        assert torch.equal(
            getattr(here.reconstruction, name), getattr(there.reconstruction, name)
        ), name
    assert here.descriptors is not None
    assert there.descriptors is not None
    assert torch.equal(here.descriptors, there.descriptors)
    assert progress[0] == Progress("transfer", 0.0)
    assert all(isinstance(answer, Progress) for answer in progress)


def test_it_describes_itself_in_plain_data(replica: Replica, artifact: Path) -> None:
    found = replica.describe()
    engine = Engine(InferenceSettings(artifact=artifact))
    assert found.digest == engine.digest
    engine.load()  # only then it is known what runs
    assert found.model == engine.document().model_dump()
    assert found.budget is not None
    engine.planner.model.calibration = list(found.calibration)
    assert (
        0
        < engine.planner.model.predict(1, 96, 96).bytes
        < engine.planner.model.predict(8, 96, 96).bytes
    )
    assert json.dumps(found.model)
    assert pickle.loads(pickle.dumps(found)) == found
    replica.check_health()


def test_problems_arrive_as_their_documents(replica: Replica, batch: PreprocessedImages) -> None:
    *_, ended = answers(replica, Order.of(batch, torch.zeros(1, 2)))
    assert isinstance(ended, Refused)
    assert ended.error["code"] == "no-tracks"

    def refuse(*arguments: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    hook = replica._engine.net.register_forward_pre_hook(refuse)
    *_, ended = answers(replica, Order.of(batch, None))
    hook.remove()
    assert isinstance(ended, Refused)
    assert (ended.error["code"], ended.error["fields"]) == ("out-of-memory", {"pictures": 2})
    *_, done = answers(replica, Order.of(batch, None))
    assert isinstance(done, Done)


def test_a_surprise_is_raised(replica: Replica, batch: PreprocessedImages) -> None:
    def break_down(*arguments: object) -> None:
        raise KeyError("no such layer")

    hook = replica._engine.net.register_forward_pre_hook(break_down)
    with pytest.raises(KeyError, match="no such layer"):
        answers(replica, Order.of(batch, None))
    hook.remove()


@pytest.mark.parametrize("how", ["closed", "cancelled"])
def test_a_pass_that_nobody_waits_for_is_stopped_before_the_next_one_begins(
    how: str, artifact: Path, batch: PreprocessedImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.ray.replica.Engine", Gate)
    replica = Replica(InferenceSettings(artifact=artifact))
    gate: Any = replica._engine

    async def leave() -> None:
        stream = replica.infer(Order.of(batch, None))
        await anext(stream)
        await asyncio.to_thread(gate.entered.wait, 10)
        if how == "closed":
            await stream.aclose()
            return
        waiting = asyncio.ensure_future(_last(stream))
        await asyncio.sleep(0.05)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(leave())
    assert gate.at_once == 0
    gate.opened.set()
    assert isinstance(answers(replica, Order.of(batch, None))[-1], Done)
    assert gate.most_at_once == 1


async def _last(stream: Any) -> None:
    async for _ in stream:
        pass


def test_a_stuck_pass_fails_the_check_of_health(
    artifact: Path, batch: PreprocessedImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = threading.Event()

    class Stuck(Engine):
        def infer(self, *arguments: Any) -> Pass:
            assert go.wait(20)
            return super().infer(*arguments)

    monkeypatch.setattr("service.ray.replica.Engine", Stuck)
    replica = Replica(InferenceSettings(artifact=artifact), stall_timeout=0.2)
    thread = threading.Thread(target=answers, args=(replica, Order.of(batch, None)))
    thread.start()

    def unhealthy() -> bool:
        try:
            replica.check_health()
        except RuntimeError as error:
            return "no progress for 0.2 seconds" in str(error)
        return False

    wait_until(unhealthy)
    go.set()
    thread.join()
    replica.check_health()
