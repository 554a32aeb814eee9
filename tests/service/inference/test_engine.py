from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal

import pytest
import torch

from model import VGGT
from model.families.vggt.presets import PRESETS
from model.files.artifact import save
from model.network import dpt_head, execution
from model.preprocess import preprocess_images
from model.scene.preprocess import PreprocessedImages
from quantization.convert import quantize_network
from quantization.recipe import Recipe
from service.errors import NoTracks, NotReady, OutOfMemory
from service.inference.engine import Engine
from service.inference.graphs import PassGraphs
from service.settings import InferenceSettings
from tests.service.inference.test_graphs import Machine
from tests.service.pictures import make_picture


@pytest.fixture(scope="module")
def engine(artifact: Path) -> Engine:
    engine = Engine(InferenceSettings(artifact=artifact))
    with pytest.raises(NotReady):
        _ = engine.net
    engine.load()
    return engine


def batch(engine: Engine, frames: int = 1) -> PreprocessedImages:
    pictures = [make_picture(seed=seed) for seed in range(frames)]
    return preprocess_images(
        pictures, "fit", image_size=engine.image_size, patch_size=engine.patch_size
    )


def test_a_pass_is_timed_by_stage_and_its_memory_measured(engine: Engine) -> None:
    done = engine.infer(batch(engine, 2))
    assert list(done.seconds) == ["transfer", "aggregator", "heads", "post"]
    assert done.seconds["aggregator"] > 0
    assert done.peak_bytes > 0
    assert done.reconstruction.depth.shape == (2, 72, 96)


def test_what_was_measured_at_the_start_predicts_more_for_more_frames(engine: Engine) -> None:
    one, eight = engine.planner.model.predict(1, 96, 96), engine.planner.model.predict(8, 96, 96)
    assert 0 < one.bytes < eight.bytes
    assert 0 < one.seconds < eight.seconds
    assert engine.planner.budget is not None
    assert engine.planner.budget > 2**20


def test_what_runs_otherwise_than_the_artifact_permits_is_reported_and_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    save(quantize_network(VGGT(PRESETS["demo"]), Recipe(dense_heads="bfloat16")), tmp_path / "fast")
    for module in (dpt_head, execution):
        monkeypatch.setattr(module, "computes_bfloat16", lambda device: False)
    engine = Engine(InferenceSettings(artifact=tmp_path / "fast"))
    with caplog.at_level(logging.WARNING, "service"):
        engine.load()
    sentence = "dense heads run in float32: this cpu is slower in bfloat16"
    assert engine.document().fallbacks == [sentence]
    assert [record.getMessage() for record in caplog.records] == [sentence]


@pytest.mark.parametrize(("asked", "precision"), [("4", "w4a4, w4a8"), ("8", "w4a8")])
def test_the_width_of_activations_is_chosen_and_said(
    artifact: Path, asked: Literal["4", "8"], precision: str
) -> None:
    engine = Engine(InferenceSettings(artifact=artifact, activations=asked))
    assert engine.document().activations is None
    engine.load()
    document = engine.document()
    assert document.precision == precision
    assert document.activations is not None
    assert document.activations.model_dump() == {"asked": asked, "wide": asked == "8", "cost": None}


def test_another_width_of_activations_is_another_result(artifact: Path) -> None:
    engines = [
        Engine(InferenceSettings(artifact=artifact, activations=asked)) for asked in ("auto", "8")
    ]
    assert engines[0].fingerprint != engines[1].fingerprint


def test_an_observer_can_stop_a_pass(engine: Engine) -> None:
    def stop(stage: str, share: float) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        engine.infer(batch(engine), stop)
    done = engine.infer(batch(engine))
    assert done.tracks is None
    assert done.reconstruction.depth.isfinite().all()


def test_a_pass_from_a_graph_is_that_without_one(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(bytes=12345)
    first, second = batch(engine), batch(engine, 2)
    plain = [engine.infer(given) for given in (first, second)]
    monkeypatch.setattr(engine, "_graphs", PassGraphs(machine.capture, 2**40))
    for given, without in zip((first, second), plain, strict=True):
        engine.infer(given)
        told: list[tuple[str, float]] = []
        done = engine.infer(given, lambda stage, share, told=told: told.append((stage, share)))
        assert torch.equal(done.reconstruction.depth, without.reconstruction.depth)
        assert done.peak_bytes == 12345 + given.images.nbytes
        assert list(done.seconds) == ["transfer", "aggregator", "heads", "post"]
        assert told == [("aggregator", 1.0), ("heads", 1.0)]
    assert machine.replays == 2
    assert engine.infer(first, describe=True).descriptors is not None  # which no graph gives
    assert machine.replays == 2


def test_a_refused_graph_is_told_and_the_pass_runs_without(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine()
    machine.error = RuntimeError("operation not permitted when stream is capturing")
    monkeypatch.setattr(engine, "_graphs", PassGraphs(machine.capture, 2**40))
    for _ in range(3):
        assert engine.infer(batch(engine)).reconstruction.depth.isfinite().all()
    assert machine.captures == 1
    assert engine.document().fallbacks == [
        "short passes run without CUDA graphs: operation not permitted when stream is capturing"
    ]


def test_frames_are_described_only_in_a_pass_that_is_asked_to(engine: Engine) -> None:
    watchers: list[int] = []

    def count(stage: str, share: float) -> None:
        watchers.append(len(engine.net.aggregator.patch_embed._forward_hooks))

    plain, told = (
        engine.infer(batch(engine, 2), count, describe=describe) for describe in (False, True)
    )
    assert plain.descriptors is None
    assert told.descriptors is not None
    assert len(told.descriptors) == 2
    assert torch.equal(plain.reconstruction.depth, told.reconstruction.depth)
    assert (watchers[0], watchers[-1]) == (0, 1)


def test_query_points_need_a_track_head(engine: Engine) -> None:
    with pytest.raises(NoTracks, match="camera, depth, point"):
        engine.infer(batch(engine), query_points=torch.zeros(1, 2))


@pytest.mark.parametrize(
    "words", ["DefaultCPUAllocator: can't allocate memory", "CUDA out of memory"]
)
def test_running_out_of_memory_is_a_problem_and_the_next_pass_works(
    engine: Engine, words: str
) -> None:
    kind = torch.OutOfMemoryError if "CUDA" in words else RuntimeError

    def refuse(*arguments: object) -> None:
        raise kind(words)

    hook = engine.net.register_forward_pre_hook(refuse)
    with pytest.raises(OutOfMemory):
        engine.infer(batch(engine))
    hook.remove()
    assert engine.infer(batch(engine)).reconstruction.depth.isfinite().all()
