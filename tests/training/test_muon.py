from __future__ import annotations

import pytest
import torch

from training.muon import Muon, orthogonalise


def test_orthogonalised_matrices_have_singular_values_near_one() -> None:
    torch.manual_seed(0)
    singular = torch.linalg.svdvals(orthogonalise(torch.randn(4, 32, 96)))
    assert singular.min() > 0.6
    assert singular.max() < 1.3


def test_orthogonalising_keeps_the_singular_vectors() -> None:
    torch.manual_seed(0)
    matrix = torch.randn(1, 16, 48)
    u, _, v = torch.linalg.svd(matrix[0], full_matrices=False)
    core = u.mT @ orthogonalise(matrix)[0] @ v.mT
    assert (core - torch.diag(core.diagonal())).abs().max() < 1e-4


def test_tall_matrices_are_refused() -> None:
    with pytest.raises(ValueError, match="rows <= columns"):
        orthogonalise(torch.zeros(1, 4, 2))


@pytest.mark.parametrize("shape", [(16, 16), (64, 16), (16, 64)], ids=["square", "tall", "wide"])
def test_an_update_is_an_orthogonal_matrix_of_the_documented_size(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    weight = torch.zeros(shape)
    weight.grad = torch.randn(shape)
    Muon([weight], weight_decay=0.0).step(0.1)
    expected = 0.1 * max(1.0, shape[0] / shape[1]) ** 0.5
    singular = torch.linalg.svdvals(weight) / expected
    assert singular.min() > 0.6
    assert singular.max() < 1.3
    assert (weight * weight.grad).sum() < 0  # downhill


def test_query_key_and_value_of_a_fused_weight_are_orthogonalised_apart() -> None:
    torch.manual_seed(0)
    weight = torch.zeros(48, 16)
    weight.grad = torch.randn(48, 16)
    weight.grad[:16] *= 1e-3
    Muon([], [weight], weight_decay=0.0).step(1.0)
    for part in weight.chunk(3):
        singular = torch.linalg.svdvals(part)
        assert singular.min() > 0.6
        assert singular.max() < 1.3


def test_a_state_restores_the_momentum() -> None:
    torch.manual_seed(0)
    gradients = torch.randn(3, 8, 8)

    def moved(split: bool) -> torch.Tensor:
        weight = torch.zeros(8, 8)
        optimiser = Muon([weight])
        for index, gradient in enumerate(gradients):
            if split and index == 2:
                state = {name: value.clone() for name, value in optimiser.state().items()}
                optimiser = Muon([weight])
                optimiser.load_state(state)
            weight.grad = gradient
            optimiser.step(0.1)
        return weight

    assert torch.equal(moved(split=False), moved(split=True))
