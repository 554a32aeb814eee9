from __future__ import annotations

import pickle

import pytest
import torch

from model.preprocess import preprocess_images
from model.scene.preprocess import PreprocessedImages
from model.scene.reconstruction import Reconstruction
from model.scene.shrinking import shrink
from service.inference.network_pass import Pass, Tracks
from service.ray.transport import Done, Order
from tests.service.pictures import make_picture


@pytest.fixture
def batch() -> PreprocessedImages:
    return preprocess_images([make_picture(seed=seed) for seed in range(2)], "fit", 96, 12)


def arrived(item: Order | Done) -> Order | Done:
    """As it is after the way through shared memory: arrays can't be written to."""
    buffers: list[pickle.PickleBuffer] = []
    text = pickle.dumps(item, protocol=5, buffer_callback=buffers.append)
    return pickle.loads(text, buffers=[bytes(buffer) for buffer in buffers])


def test_pictures_travel_as_bytes_and_arrive_bit_for_bit(batch: PreprocessedImages) -> None:
    order = Order.of(batch, torch.tensor([[3.0, 4.5]]), describe=True)
    assert order.pixels.dtype == "uint8"
    there = arrived(order)
    assert torch.equal(there.batch().images, batch.images)
    assert there.batch().transforms == batch.transforms
    assert torch.equal(there.queries(), torch.tensor([[3.0, 4.5]]))
    assert there.describe


def test_shrunk_pictures_are_no_whole_255ths_and_arrive_bit_for_bit_too(
    batch: PreprocessedImages,
) -> None:
    smaller = shrink(batch, 0.75, 12)
    there = arrived(Order.of(smaller, None))
    assert torch.equal(there.batch().images, smaller.images)
    assert there.queries() is None
    assert not there.describe


def test_known_cameras_arrive_bit_for_bit(batch: PreprocessedImages) -> None:
    known = (torch.rand(2, 3, 4, dtype=torch.float64), torch.rand(2, 3, 3, dtype=torch.float64))
    there = arrived(Order.of(batch, None, cameras=known)).known_cameras()
    assert all(torch.equal(a, b) for a, b in zip(there, known, strict=True))
    assert arrived(Order.of(batch, None)).known_cameras() is None


@pytest.mark.parametrize(
    ("descriptors", "tracks"),
    [
        (None, None),
        (torch.rand(2, 7), Tracks(torch.rand(2, 5, 2), torch.rand(2, 5), torch.rand(2, 5))),
        (torch.rand(2, 7), Tracks(torch.rand(2, 5, 2), torch.rand(2, 5))),
    ],
)
def test_a_pass_comes_back_as_it_was_and_can_be_worked_on(
    batch: PreprocessedImages, descriptors: torch.Tensor | None, tracks: Tracks | None
) -> None:
    frames, _, height, width = batch.images.shape
    scene = Reconstruction(
        extrinsics=torch.rand(frames, 3, 4),
        intrinsics=torch.rand(frames, 3, 3),
        original_intrinsics=torch.rand(frames, 3, 3),
        depth=torch.rand(frames, height, width),
        depth_conf=torch.rand(frames, height, width),
        world_points=torch.rand(frames, 3, height, width).movedim(1, -1),
        colors=torch.randint(0, 256, (frames, height, width, 3), dtype=torch.uint8),
        mask=torch.rand(frames, height, width) > 0.5,
        transforms=batch.transforms,
    )
    sent = Pass(
        scene,
        descriptors,
        tracks,
        {"transfer": 0.1, "aggregator": 2.0, "heads": 1.0, "post": 0.5},
        1234,
    )
    back = arrived(Done.of(sent)).to_pass(batch.transforms)
    assert (back.seconds, back.peak_bytes, back.reconstruction.transforms) == (
        sent.seconds,
        1234,
        batch.transforms,
    )
    assert back.cost.seconds == pytest.approx(3.1)
    for name in (
        "extrinsics",
        "intrinsics",
        "original_intrinsics",
        "depth",
        "depth_conf",
        "world_points",
        "colors",
        "mask",
    ):
        assert torch.equal(getattr(back.reconstruction, name), getattr(scene, name)), name
    back.reconstruction.depth.mul_(2)
    assert (back.descriptors is None) == (descriptors is None)
    if descriptors is not None and back.descriptors is not None:
        assert torch.equal(back.descriptors, descriptors)
    assert (back.tracks is None) == (tracks is None)
    if tracks is not None and back.tracks is not None:
        assert torch.equal(back.tracks.points, tracks.points)
        assert (back.tracks.confidence is None) == (tracks.confidence is None)
