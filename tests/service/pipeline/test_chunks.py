from __future__ import annotations

from pathlib import Path

import pytest
import torch

from model.scene.chunking import chunk_frames
from model.scene.preprocess import ImageTransform, PreprocessedImages
from service.inference.network_pass import Pass, Tracks
from service.pipeline.chunks import FinishedChunks
from tests.service.pipeline.test_alignment import NETWORK, ORIGINAL, scene

CHUNKS = chunk_frames(5, 3, 1)


def take(frames: range) -> PreprocessedImages:
    transform = ImageTransform(ORIGINAL, NETWORK, (0.1, 0.1), (0.0, 0.0))
    images = torch.zeros(len(frames), 3, *NETWORK)
    return PreprocessedImages(images, (transform,) * len(frames))


def finished(folder: Path, identity: object = "model") -> FinishedChunks:
    return FinishedChunks(folder, CHUNKS, take, identity)  # type: ignore[arg-type]


def a_pass(*, tracked: bool = False) -> Pass:
    tracks = Tracks(torch.rand(3, 2, 2), torch.rand(3, 2)) if tracked else None
    return Pass(scene(), torch.rand(3, 8), tracks, {"aggregator": 0.5, "heads": 0.25}, 1000)


def test_a_finished_pass_comes_back_from_the_disk_bit_for_bit(tmp_path: Path) -> None:
    done = a_pass(tracked=True)
    finished(tmp_path).keep(1, done)
    again = finished(tmp_path)
    found = again.find(1)
    assert found is not None
    for name in ("extrinsics", "intrinsics", "original_intrinsics", "depth", "depth_conf",
                 "world_points", "colors", "mask"):  # fmt: skip
        assert torch.equal(getattr(found.reconstruction, name), getattr(done.reconstruction, name))
    assert found.descriptors is not None
    assert done.descriptors is not None
    assert torch.equal(found.descriptors, done.descriptors)
    assert found.tracks is not None
    assert done.tracks is not None
    assert torch.equal(found.tracks.points, done.tracks.points)
    assert found.tracks.confidence is None
    assert (found.seconds, found.peak_bytes) == (done.seconds, done.peak_bytes)
    assert torch.equal(again[1].depth, done.reconstruction.depth)
    assert len(again) == len(CHUNKS)


def test_what_is_cut_off_or_missing_is_run_again(tmp_path: Path) -> None:
    chunks = finished(tmp_path)
    assert chunks.find(0) is None
    chunks.keep(0, a_pass())
    (path,) = tmp_path.glob("chunk-*-0000.safetensors")
    whole = path.read_bytes()
    for size in (0, 4, 100, len(whole) - 1):
        path.write_bytes(whole[:size])
        assert chunks.find(0) is None
    path.write_bytes(whole)
    assert chunks.find(0) is not None


def test_passes_of_another_plan_are_not_taken_for_this_ones(tmp_path: Path) -> None:
    finished(tmp_path).keep(0, a_pass())
    assert finished(tmp_path, "another model").find(0) is None
    assert finished(tmp_path).find(0) is None  # they were removed


def test_there_is_no_chunk_behind_the_last(tmp_path: Path) -> None:
    with pytest.raises(IndexError):
        finished(tmp_path)[len(CHUNKS)]
