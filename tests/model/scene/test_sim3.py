from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from model.scene.sim3 import exponential, from_matrix, logarithm, to_matrix
from model.scene.similarity import Similarity

GENERATOR = torch.Generator().manual_seed(0)


def random(count: int, spread: float = 1.0) -> Tensor:
    return spread * torch.randn(count, 7, generator=GENERATOR, dtype=torch.float64)


@pytest.mark.parametrize("spread", [0.0, 1e-12, 1e-6, 1e-2, 0.8])
def test_the_logarithm_undoes_the_exponential(spread: float) -> None:
    coordinates = random(50, spread)
    torch.testing.assert_close(
        logarithm(exponential(coordinates)), coordinates, atol=1e-9, rtol=1e-9
    )


def test_the_exponential_undoes_the_logarithm_also_near_half_a_turn() -> None:
    coordinates = random(50)
    coordinates[:, 3:6] *= (math.pi - 1e-4) / coordinates[:, 3:6].norm(dim=-1, keepdim=True)
    matrix = exponential(coordinates)
    torch.testing.assert_close(exponential(logarithm(matrix)), matrix, atol=1e-8, rtol=1e-8)


def test_multiples_of_a_logarithm_are_powers() -> None:
    coordinates = random(20, 0.5)
    half = exponential(coordinates / 2)
    torch.testing.assert_close(half @ half, exponential(coordinates))


def test_the_coordinates_are_translation_rotation_and_scale() -> None:
    assert exponential(torch.tensor([1.0, 2, 3, 0, 0, 0, 0]).double())[
        :3, 3
    ].tolist() == pytest.approx([1, 2, 3])
    turned = (
        exponential(torch.tensor([0.0, 0, 0, 0, 0, math.pi / 2, 0], dtype=torch.float64))
        @ torch.tensor([1.0, 0, 0, 1]).double()
    )
    assert turned[:3].tolist() == pytest.approx([0, 1, 0])
    scaled = exponential(torch.tensor([0.0, 0, 0, 0, 0, 0, math.log(2)], dtype=torch.float64))
    torch.testing.assert_close(scaled, torch.diag(torch.tensor([2.0, 2, 2, 1]).double()))


def test_a_similarity_is_its_matrix() -> None:
    similarity = from_matrix(exponential(random(1, 0.7)[0]))
    assert isinstance(similarity, Similarity)
    point = torch.tensor([0.3, -1.0, 2.0], dtype=torch.float64)
    moved = to_matrix(similarity) @ torch.cat((point, torch.ones(1).double()))
    torch.testing.assert_close(moved[:3], similarity.move_points(point))
    torch.testing.assert_close(similarity.rotation @ similarity.rotation.T, torch.eye(3).double())
