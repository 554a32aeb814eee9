"""Normalised Walsh-Hadamard rotations of any width n = 2^k or 2^k * m with a small Paley matrix of
order m.

Sylvester's construction gives powers of two (natural order); Paley's first construction gives order
q + 1 for a prime q = 3 (mod 4), which covers the widths 12, 20, ... times a power of two (Paley,
"On orthogonal matrices", 1933).
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

BASE_ORDERS = (12, 20)


def base_order(width: int) -> int:
    """Order m of the non-trivial factor of `width`: 1 for a power of two. Raises ValueError if
    there is none."""
    for order in (1, *BASE_ORDERS):
        quotient, rest = divmod(width, order)
        if rest == 0 and quotient > 0 and quotient & (quotient - 1) == 0:
            return order
    raise ValueError(
        f"no Hadamard rotation of width {width}: expected a power of two, "
        f"or one times {' or '.join(map(str, BASE_ORDERS))}"
    )


@cache
def base_matrix(order: int) -> Tensor:
    """Hadamard matrix `[order, order]` with entries +1 and -1, float64, by Paley's first
    construction."""
    prime = order - 1
    residues = {pow(i, 2, prime) for i in range(1, prime)}
    character = [0] + [1 if i in residues else -1 for i in range(1, prime)]
    skew = torch.zeros(order, order, dtype=torch.float64)
    skew[0, 1:] = 1
    skew[1:, 0] = -1
    for i in range(prime):
        for j in range(prime):
            skew[1 + i, 1 + j] = character[(j - i) % prime]
    matrix = skew + torch.eye(order, dtype=torch.float64)
    return matrix * matrix[:, :1]  # first column +1: a rotation's row signs are kept apart


def hadamard_transform(x: Tensor) -> Tensor:
    """`x @ H / sqrt(n)` along the last axis of `x` `[..., n]`, in the precision of `x`, in n log n
    steps.

    H is `kron(M, S)` with the base matrix M and Sylvester's S; every sum has a fixed order. Raises
    ValueError for a width without a construction.
    """
    width = x.shape[-1]
    order = base_order(width)
    size = width // order
    shape = x.shape
    x = x.reshape(-1, order, size)
    span = 1
    while span < size:
        x = x.view(-1, order, size // (2 * span), 2, span)
        x = torch.stack((x[..., 0, :] + x[..., 1, :], x[..., 0, :] - x[..., 1, :]), dim=-2)
        span *= 2
    x = x.reshape(-1, order, size)
    # one term after the other: native kernels repeat this order and get the same bits
    if order > 1:
        matrix = base_matrix(order).to(x)
        rows = x
        x = matrix[0, :, None] * rows[:, :1]
        for i in range(1, order):
            x = x + matrix[i, :, None] * rows[:, i : i + 1]
    return x.reshape(shape) * width**-0.5


def hadamard_matrix(width: int) -> Tensor:
    """The normalised matrix `[n, n]` of `hadamard_transform`, float64."""
    return hadamard_transform(torch.eye(width, dtype=torch.float64))
