from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from scenes.synthetic.distribution import FreeScenes, SceneDistribution
from training.batches import BatchConfig, TrainingBatches, concatenate, distribution_at

SMALL = BatchConfig(
    frames_per_step=8, pool_frames=16, reuse=2, sizes=((24, 24), (24, 36)), size_weights=(0.5, 0.5)
)


def _prepare(batches: TrainingBatches, step: int, parts: int = 1) -> None:
    batches.hold(step, concatenate([batches.render(step, part, parts) for part in range(parts)]))


def test_a_batch_depends_on_seed_and_step_only() -> None:
    walked = TrainingBatches(SMALL, seed=1, steps=100)
    for step in range(6):
        _prepare(walked, step)
    jumped = TrainingBatches(SMALL, seed=1, steps=100)
    _prepare(jumped, 5, 2)
    first, second = walked.part(5), jumped.part(5)
    assert torch.equal(first.images, second.images)
    assert torch.equal(first.depth, second.depth)
    other_seed = TrainingBatches(SMALL, seed=2, steps=100)
    _prepare(other_seed, 5)
    assert not torch.equal(other_seed.part(5).depth.mean(), first.depth.mean())


def test_the_parts_of_a_batch_are_the_batch() -> None:
    batches = TrainingBatches(SMALL, seed=0, steps=100)
    for step in range(4):
        _prepare(batches, step)
        whole = batches.part(step)
        parts = [batches.part(step, part, 3) for part in range(3)]
        assert torch.equal(whole.images, torch.cat([part.images for part in parts]))
        assert torch.equal(whole.extrinsics, torch.cat([part.extrinsics for part in parts]))


def test_batches_are_normalised_and_stay_in_range() -> None:
    batches = TrainingBatches(SMALL, seed=0, steps=10)
    for step in range(6):
        _prepare(batches, step)
        batch = batches.part(step)
        assert batch.images.min() >= 0
        assert batch.images.max() <= 1
        assert (batch.extrinsics[:, 0] - torch.eye(4)[:3]).abs().max() < 1e-6
        assert batch.world_points.norm(dim=-1).mean() == pytest.approx(1, abs=1e-3)
        assert batch.images.shape[0] * batch.images.shape[1] <= SMALL.frames_per_step


def test_steps_of_one_pool_differ() -> None:
    config = replace(SMALL, long_pools=0.0, short_frames=((2, 1.0),))
    batches = TrainingBatches(config, seed=0, steps=10)
    _prepare(batches, 0)
    assert not torch.equal(batches.part(0).images, batches.part(1).images)


def test_long_pools_hold_scenes_of_up_to_eight_frames() -> None:
    config = replace(SMALL, long_pools=1.0, long_frames=((8, 1.0),))
    batches = TrainingBatches(config, seed=0, steps=10)
    _prepare(batches, 0)
    assert batches.part(0).images.shape[:2] == (1, 8)


def test_dense_supervision_falls_on_a_random_share_of_the_frames() -> None:
    batches = TrainingBatches(SMALL, seed=0, steps=10)
    chosen = batches.dense_frames(step=3, part=0, frames=20, share=0.4)
    assert len(chosen) == 8
    assert chosen.unique().numel() == 8
    assert chosen.max() < 20
    assert len(batches.dense_frames(step=3, part=0, frames=4, share=0.01)) == 1


def test_the_run_starts_with_narrow_orbits_and_reaches_the_full_distribution() -> None:
    config = BatchConfig(easy_fraction=0.1)
    assert distribution_at(0, 1000, config).half_range == (5.0, 20.0)
    assert distribution_at(100, 1000, config) == SceneDistribution()


def test_the_dial_turns_from_standard_rooms_to_free_cameras_in_the_first_half() -> None:
    config = BatchConfig(dial_until=0.5, standard_share=0.4)
    assert distribution_at(0, 1000, config) == SceneDistribution()
    assert distribution_at(250, 1000, config).free == FreeScenes().narrowed(0.5)
    for step in (500, 999):
        assert distribution_at(step, 1000, config) == SceneDistribution(
            free_share=0.6, free=FreeScenes()
        )


def test_a_run_ends_with_larger_pictures_if_so_configured() -> None:
    config = replace(SMALL, large_from=0.5, large_sizes=((36, 36), (36, 48)))
    batches = TrainingBatches(config, seed=0, steps=8)
    sides = []
    for step in range(0, 8, 2):
        _prepare(batches, step)
        sides.append(batches.part(step).images.shape[-2])
    assert sides == [24, 24, 36, 36]
    with pytest.raises(ValueError, match="needs large_sizes"):
        BatchConfig(large_from=0.5)


def test_photographed_batches_depend_on_seed_and_step_only_and_stay_in_range() -> None:
    config = replace(SMALL, photography=True, dial_until=0.0)
    first, second = (TrainingBatches(config, seed=3, steps=10) for _ in range(2))
    for batches in (first, second):
        _prepare(batches, 4)
    images = first.part(4).images
    assert torch.equal(images, second.part(4).images)
    assert images.min() >= 0
    assert images.max() <= 1
