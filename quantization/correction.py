"""Output correction: the weight and bias that make the best of inputs which are rounded and come
from rounded layers.

Ridge regression, in closed form, gives the weight whose product with the rounded inputs comes
closest to that of the float weight with the inputs before rounding. The bias takes the mean output
back to that of the float network. To regress on the float network's inputs as well (Li et al.,
"GPTAQ", 2025) was worse here: they are a noisy guess of each other, so regression shrinks every
layer a little, and layers add up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from quantization.rounding import damped


@dataclass
class Moments:
    """Moments of transformed inputs, rows `[T, K]`, added up over samples, float64.

    `rounded` are the codes times scales that enter the integer product, `seen` the same before
    rounding, `meant` what the float network has there.
    """

    count: int
    rounded_sum: Tensor  # [K]
    seen_sum: Tensor  # [K]
    meant_sum: Tensor  # [K]
    gram: Tensor  # [K, K] rounded^T rounded
    cross: Tensor  # [K, K] seen^T rounded

    @classmethod
    def empty(cls, width: int, device: torch.device | str = "cpu") -> Moments:
        vector = torch.zeros(width, dtype=torch.float64, device=device)
        matrix = torch.zeros(width, width, dtype=torch.float64, device=device)
        return cls(0, vector, vector.clone(), vector.clone(), matrix, matrix.clone())

    def add(self, rounded: Tensor, seen: Tensor, meant: Tensor) -> None:
        self.count += len(rounded)
        self.rounded_sum += rounded.sum(dim=0, dtype=torch.float64)
        self.seen_sum += seen.sum(dim=0, dtype=torch.float64)
        self.meant_sum += meant.sum(dim=0, dtype=torch.float64)
        self.gram += (rounded.T @ rounded).double()
        self.cross += (seen.T @ rounded).double()

    def centred(self) -> tuple[Tensor, Tensor]:
        """Covariances: `gram` and `cross` about the means."""
        rounded, seen = self.rounded_sum / self.count, self.seen_sum / self.count
        gram = self.gram - self.count * torch.outer(rounded, rounded)
        return gram, self.cross - self.count * torch.outer(seen, rounded)


def mean_covariance(moments: Sequence[Moments], shares: Sequence[float]) -> tuple[Tensor, Tensor]:
    """`gram` and `cross` of several sets of inputs that have as many rows each, every set about its
    own means, added up by `shares`."""
    gram, cross = (torch.zeros_like(moments[0].gram) for _ in range(2))
    for one, share in zip(moments, shares, strict=True):
        own_gram, own_cross = one.centred()
        gram += share * own_gram
        cross += share * own_cross
    return gram, cross


def corrected_weight(weight: Tensor, gram: Tensor, cross: Tensor, ridge: float) -> Tensor:
    """The weight `[N, K]` that maps rounded inputs onto `weight` times the seen ones with the least
    squared error, by the covariances of both.

    `ridge`, times the mean square of the inputs, pulls it towards `weight`.
    """
    lifted = damped(gram, ridge)
    lift = torch.diag(lifted - gram)
    return torch.cholesky_solve((weight @ cross + weight * lift).T, torch.linalg.cholesky(lifted)).T


def corrected_scale(weight: Tensor, codes: Tensor, scale: Tensor, moments: Moments) -> Tensor:
    """The scale `[N]` of each row of `codes` `[N, K]` with which its product with the rounded
    inputs comes closest to that of `weight` `[N, K]` with the seen ones.

    A row of zeros keeps `scale`.
    """
    gram, cross = moments.centred()
    fit = ((weight @ cross) * codes).sum(dim=1)
    power = ((codes @ gram) * codes).sum(dim=1)
    return torch.where((power > 0) & (fit > 0), fit / power.clamp(min=1e-300), scale)


def corrected_bias(
    bias: Tensor | None, weight: Tensor, quantised: Tensor, moments: Moments
) -> Tensor:
    """The bias `[N]` with which the mean output is that of the float network."""
    shift = (weight @ moments.meant_sum - quantised @ moments.rounded_sum) / moments.count
    return shift if bias is None else bias.to(shift.dtype) + shift
