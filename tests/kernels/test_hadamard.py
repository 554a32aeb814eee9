from __future__ import annotations

import pytest
import torch

from kernels.hadamard import base_matrix, base_order, hadamard_matrix, hadamard_transform

WIDTHS = [1, 2, 64, 96, 128, 160, 512, 768]


@pytest.mark.parametrize("width", WIDTHS)
def test_matrix_is_orthonormal(width: int) -> None:
    matrix = hadamard_matrix(width)
    torch.testing.assert_close(
        matrix @ matrix.T, torch.eye(width, dtype=torch.float64), atol=1e-12, rtol=0
    )


@pytest.mark.parametrize("width", WIDTHS)
def test_every_entry_has_the_same_magnitude(width: int) -> None:
    torch.testing.assert_close(
        hadamard_matrix(width).abs(), torch.full((width, width), width**-0.5).double()
    )


@pytest.mark.parametrize("width", [1024, 4096, 8192])
def test_the_widths_of_vggt_1b_keep_lengths_and_undo_themselves(width: int) -> None:
    x = torch.randn(4, width, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    rotated = hadamard_transform(x)
    torch.testing.assert_close(rotated.norm(dim=-1), x.norm(dim=-1))
    torch.testing.assert_close(hadamard_transform(rotated), x)


@pytest.mark.parametrize("width", [64, 96, 512])
def test_fast_transform_equals_the_dense_product(width: int) -> None:
    x = torch.randn(3, 5, width, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        hadamard_transform(x), x @ hadamard_matrix(width), atol=1e-12, rtol=0
    )


def test_powers_of_two_are_in_natural_order() -> None:
    expected = (
        torch.tensor([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]).double() / 2
    )
    torch.testing.assert_close(hadamard_matrix(4), expected)


@pytest.mark.parametrize("order", [12, 20])
def test_base_matrices_are_hadamard(order: int) -> None:
    matrix = base_matrix(order)
    assert set(matrix.unique().tolist()) == {-1.0, 1.0}
    assert torch.equal(matrix @ matrix.T, order * torch.eye(order, dtype=torch.float64))


@pytest.mark.parametrize("width", [0, 3, 10, 14, 100, 1022])
def test_a_width_without_a_construction_is_refused(width: int) -> None:
    with pytest.raises(ValueError, match=f"no Hadamard rotation of width {width}"):
        base_order(width)
