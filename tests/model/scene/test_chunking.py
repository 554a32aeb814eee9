from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from model.families.vggt.cameras import pose_encoding_to_cameras
from model.scene.chunking import chunk_frames, join, take
from model.scene.geometry import unproject_depth
from model.scene.preprocess import ImageTransform, PreprocessedImages
from model.scene.reconstruction import Reconstruction
from model.scene.similarity import Similarity

SIZE = (12, 16)


@pytest.mark.parametrize(
    ("frames", "size", "overlap"), [(1, 4, 2), (4, 4, 2), (5, 4, 2), (20, 8, 3), (7, 2, 1)]
)
def test_chunks_cover_every_frame_and_share_the_overlap(
    frames: int, size: int, overlap: int
) -> None:
    chunks = chunk_frames(frames, size, overlap)
    assert sorted({frame for chunk in chunks for frame in chunk}) == list(range(frames))
    assert all(0 < len(chunk) <= size for chunk in chunks)
    assert all(b.start == a.stop - overlap for a, b in pairwise(chunks))
    assert all(b.stop > a.stop for a, b in pairwise(chunks))


def test_an_overlap_that_leaves_nothing_new_is_refused() -> None:
    with pytest.raises(ValueError, match="can't share 4"):
        chunk_frames(10, 4, 4)


def scene(frames: int) -> Reconstruction:
    generator = torch.Generator().manual_seed(0)
    encoding = torch.cat(
        (
            torch.randn(frames, 3, generator=generator),
            torch.randn(frames, 4, generator=generator),
            torch.full((frames, 2), 1.0),
        ),
        dim=-1,
    )
    extrinsics, intrinsics = pose_encoding_to_cameras(encoding, SIZE)
    depth = 1 + torch.rand(frames, *SIZE, generator=generator)
    return Reconstruction(
        extrinsics=extrinsics,
        intrinsics=intrinsics,
        original_intrinsics=intrinsics,
        depth=depth,
        depth_conf=1 + torch.rand(frames, *SIZE, generator=generator),
        world_points=unproject_depth(depth, extrinsics, intrinsics),
        colors=torch.zeros(frames, *SIZE, 3, dtype=torch.uint8),
        mask=torch.ones(frames, *SIZE, dtype=torch.bool),
        transforms=(ImageTransform(SIZE, SIZE, (1.0, 1.0), (0.0, 0.0)),) * frames,
    )


def part(whole: Reconstruction, frames: range, world: Similarity) -> Reconstruction:
    """A chunk of `whole` as a pass of its own would give it: in another world."""
    rows = slice(frames.start, frames.stop)
    return Reconstruction(
        extrinsics=world.move_extrinsics(whole.extrinsics[rows]).float(),
        intrinsics=whole.intrinsics[rows],
        original_intrinsics=whole.original_intrinsics[rows],
        depth=world.scale * whole.depth[rows],
        depth_conf=whole.depth_conf[rows],
        world_points=world.move_points(whole.world_points[rows]).float(),
        colors=whole.colors[rows],
        mask=whole.mask[rows],
        transforms=whole.transforms[rows],
    )


def test_chunks_in_worlds_of_their_own_join_into_the_first_ones() -> None:
    whole = scene(9)
    chunks = chunk_frames(9, 4, 2)
    turn = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    worlds = [
        Similarity(
            1.5**i,
            torch.linalg.matrix_power(turn, i),
            torch.full((3,), float(i), dtype=torch.float64),
        )
        for i in range(len(chunks))
    ]
    joined = join(
        [part(whole, chunk, world) for chunk, world in zip(chunks, worlds, strict=True)], chunks
    )
    assert len(joined.transforms) == 9
    torch.testing.assert_close(joined.extrinsics, whole.extrinsics, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(joined.depth, whole.depth, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(joined.world_points, whole.world_points, atol=1e-3, rtol=1e-4)


def test_a_chunk_reads_its_own_frames() -> None:
    transforms = tuple(ImageTransform((i + 1, 1), SIZE, (1.0, 1.0), (0.0, 0.0)) for i in range(5))
    batch = take(
        PreprocessedImages(torch.arange(5.0).view(5, 1, 1, 1).expand(5, 3, *SIZE), transforms),
        range(2, 4),
    )
    assert batch.images[:, 0, 0, 0].tolist() == [2, 3]
    assert batch.transforms == transforms[2:4]
