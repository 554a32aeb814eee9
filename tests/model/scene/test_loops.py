from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from model.scene.chunking import chunk_frames, join, place
from model.scene.loops import Candidate, Loop, close_loops, find_loops, measure, most_loops
from model.scene.sim3 import exponential, from_matrix, logarithm, to_matrix
from model.scene.similarity import Similarity
from tests.model.scene.test_chunking import part, scene

FRAMES, SIZE, OVERLAP = 27, 6, 3
CHUNKS = chunk_frames(FRAMES, SIZE, OVERLAP)
NOISE = 0.01


def views(*angles: float) -> Tensor:
    """Descriptors of cameras that look along these headings in degrees; those more than 60 apart
    share nothing."""
    heading = torch.deg2rad(torch.tensor(angles))[:, None] - torch.deg2rad(
        torch.arange(0, 360, 10.0)
    )
    return heading.cos().clamp(min=0.5)


def circle(frames: int, degrees: float) -> Tensor:
    return views(*torch.linspace(0, degrees, frames).tolist())


def worlds(drift: float) -> list[Similarity]:
    """Worlds of the chunks, each in one of its own."""
    generator = torch.Generator().manual_seed(5)
    turns = exponential(
        drift * torch.randn(len(CHUNKS), 7, generator=generator, dtype=torch.float64)
    )
    return [from_matrix(turn) for turn in turns]


def test_a_camera_that_goes_round_is_seen_to_come_back() -> None:
    (best, *_) = find_loops(circle(FRAMES, 360), CHUNKS)
    assert (best.first, best.second) == (0, len(CHUNKS) - 1)
    first, second = best.pair
    assert first in best.near[0]
    assert second in best.near[1]
    assert len(best.frames) <= SIZE
    assert abs((second - first) * 360 / (FRAMES - 1) - 360) < 45
    assert set(best.near[0]) <= set(CHUNKS[best.first])
    assert set(best.near[1]) <= set(CHUNKS[best.second])


@pytest.mark.parametrize("degrees", [20.0, 180.0, 270.0])
def test_a_camera_that_only_goes_on_has_no_loops(degrees: float) -> None:
    assert find_loops(circle(FRAMES, degrees), CHUNKS) == []


def test_loops_are_few_and_not_beside_each_other() -> None:
    chunks = chunk_frames(90, SIZE, OVERLAP)
    found = find_loops(circle(90, 3 * 360), chunks)
    assert 1 < len(found) <= most_loops(len(chunks))
    for i, one in enumerate(found):
        assert all(
            abs(one.first - two.first) > 1 or abs(one.second - two.second) > 1 for two in found[:i]
        )
        assert chunks[one.second].start >= chunks[one.first].stop


def test_two_chunks_have_nothing_to_close() -> None:
    assert most_loops(2) == 0
    assert find_loops(circle(9, 360), chunk_frames(9, SIZE, OVERLAP)) == []


def test_a_pass_over_both_ends_says_how_their_chunks_lie_to_each_other() -> None:
    whole = scene(FRAMES)
    own = worlds(0.5)
    parts = [part(whole, chunk, world) for chunk, world in zip(CHUNKS, own, strict=True)]
    candidate = Candidate(1, 5, (5, 18), (range(4, 7), range(16, 19)))
    together = [part(whole, near, own[2]) for near in candidate.near]
    seen = join(together, [range(3), range(3, 6)], [place(together[:1], [range(3)])[0]] * 2)
    loop = measure(candidate, seen, parts, CHUNKS)
    true = to_matrix(own[1]) @ torch.linalg.inv(to_matrix(own[5]))
    torch.testing.assert_close(loop.measured, true, atol=1e-4, rtol=1e-4)
    assert max(loop.residuals) < 1e-4


def drifting() -> tuple[list, list, list[Similarity]]:
    """Parts of a scene, where a chain with errors at its joints puts them, and where they truly
    are."""
    whole = scene(FRAMES)
    own = [Similarity.identity(), *worlds(0.3)[1:]]
    parts = [part(whole, chunk, world) for chunk, world in zip(CHUNKS, own, strict=True)]
    places = place(parts, CHUNKS)
    true = [at.similarity for at in places]
    generator = torch.Generator().manual_seed(6)
    slip = torch.eye(4, dtype=torch.float64)
    drifted = [places[0]]
    for at in places[1:]:
        slip = slip @ exponential(NOISE * torch.randn(7, generator=generator, dtype=torch.float64))
        drifted.append(
            replace(at, similarity=from_matrix(slip @ to_matrix(at.similarity)), residual=NOISE)
        )
    return parts, drifted, true


def loop_of(
    true: list[Similarity], first: int, second: int, residual: float = NOISE, wrong: float = 0.0
) -> Loop:
    measured = torch.linalg.inv(to_matrix(true[first])) @ to_matrix(true[second])
    measured = measured @ exponential(
        torch.tensor([wrong, 0, 0, wrong, 0, 0, 0], dtype=torch.float64)
    )
    ends = (CHUNKS[first], CHUNKS[second])
    pair = (ends[0].start, ends[1].start)
    return Loop(
        Candidate(first, second, pair, (ends[0][:3], ends[1][:3])),
        measured,
        (residual / 2, residual),
    )


def distance(places: list, true: list[Similarity]) -> float:
    errors = [
        logarithm(torch.linalg.inv(to_matrix(t)) @ to_matrix(at.similarity))
        for at, t in zip(places, true, strict=True)
    ]
    return float(torch.stack(errors).square().sum().sqrt())


def test_a_true_loop_takes_drift_back() -> None:
    parts, places, true = drifting()
    closed, (verdict,) = close_loops(places, [loop_of(true, 0, len(parts) - 1)], parts)
    assert verdict.closed
    assert distance(closed, true) < 0.75 * distance(places, true)
    assert closed[0] is places[0]
    apart = join(parts, CHUNKS, closed).extrinsics[-1] - join(parts, CHUNKS, places).extrinsics[-1]
    assert apart.abs().max() > 0


@pytest.mark.parametrize(
    ("residual", "wrong"),
    [pytest.param(NOISE, 1.0, id="too far off"), pytest.param(5 * NOISE, 0.0, id="too bad a fit")],
)
def test_a_false_loop_leaves_everything_as_it_was(residual: float, wrong: float) -> None:
    parts, places, true = drifting()
    closed, (verdict,) = close_loops(
        places, [loop_of(true, 0, len(parts) - 1, residual, wrong)], parts
    )
    assert not verdict.closed
    assert all(a is b for a, b in zip(closed, places, strict=True))


def test_a_false_loop_beside_a_true_one_changes_nothing_of_it() -> None:
    parts, places, true = drifting()
    alone, _ = close_loops(places, [loop_of(true, 0, 7)], parts)
    both, verdicts = close_loops(
        places, [loop_of(true, 1, 6, wrong=1.0), loop_of(true, 0, 7)], parts
    )
    assert [verdict.closed for verdict in verdicts] == [False, True]
    assert distance(both, true) == pytest.approx(distance(alone, true))


def test_without_loops_places_are_what_they_were() -> None:
    parts, places, _ = drifting()
    closed, verdicts = close_loops(places, [], parts)
    assert verdicts == []
    assert all(a is b for a, b in zip(closed, places, strict=True))


def test_the_unit_of_a_chunk_does_not_matter() -> None:
    """The chain in metres and in millimetres gives way by as much."""
    parts, places, true = drifting()
    loop = loop_of(true, 0, 7)
    _, (verdict,) = close_loops(places, [loop], parts)
    small = replace(Similarity.identity(), scale=1e-3)
    whole = to_matrix(small)
    parts = [part(each, range(len(each.depth)), small) for each in parts]
    inverse = torch.linalg.inv(whole)
    places = [
        replace(at, similarity=from_matrix(whole @ to_matrix(at.similarity) @ inverse))
        for at in places
    ]
    _, (again,) = close_loops(
        places, [replace(loop, measured=whole @ loop.measured @ inverse)], parts
    )
    assert again.drift == pytest.approx(verdict.drift, rel=1e-4)
