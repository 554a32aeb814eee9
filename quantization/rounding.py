"""Rounding of weights that looks at the inputs: GPTQ (Frantar et al., 2023), the same as LDLQ (Chee
et al., 2023)."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.formats import largest_code

_BLOCK = 128


def damped(gram: Tensor, damping: float) -> Tensor:
    """`gram` `[K, K]` with `damping` times its mean diagonal added to the diagonal; inputs that
    never move get 1.

    More is added where that is not enough: of a few inputs that hardly move, the covariance is lost
    in the rounding of their moments.
    """
    diagonal = gram.diagonal()
    lift = torch.where(diagonal > 0, damping * diagonal.mean(), torch.ones_like(diagonal))
    lifted = gram + torch.diag(lift)
    if torch.linalg.cholesky_ex(lifted).info:
        below = torch.linalg.eigvalsh(lifted)[0].abs()
        lifted = lifted + torch.diag((2 * below).expand(len(gram)))
    return lifted


def round_by_inputs(
    weight: Tensor, scale: Tensor, bits: int, gram: Tensor, damping: float = 0.01
) -> Tensor:
    """Codes `[N, K]` (int8) that keep `weight @ x` rather than `weight`.

    Columns are rounded one after the other, those with the strongest inputs first; the error of
    each is spread over the columns that are still open, as far as the inputs' second moments `gram`
    `[K, K]` tell what compensates what. Runs in the precision of `weight` `[N, K]`, which should be
    float64.
    """
    order = gram.diagonal().argsort(descending=True)
    work = weight[:, order].clone()
    moments = damped(gram, damping)[order][:, order].to(weight.dtype)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(moments))
    spread = torch.linalg.cholesky(inverse, upper=True)
    top = largest_code(bits)
    codes = torch.empty_like(work)
    for start in range(0, work.shape[1], _BLOCK):
        stop = min(start + _BLOCK, work.shape[1])
        errors = torch.empty_like(work[:, start:stop])
        for k in range(start, stop):
            codes[:, k] = (work[:, k] / scale).round().clamp(-top - 1, top)
            error = (work[:, k] - codes[:, k] * scale) / spread[k, k]
            work[:, k:stop] -= error[:, None] * spread[k, k:stop]
            errors[:, k - start] = error
        work[:, stop:] -= errors @ spread[start:stop, stop:]
    result = torch.empty_like(codes)
    result[:, order] = codes
    return result.to(torch.int8)
