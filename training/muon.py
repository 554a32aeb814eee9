"""Muon: momentum orthogonalised by Newton-Schulz iterations (Jordan et al., "Muon", 2024), batched
over shapes.

Why not `torch.optim.Muon` (torch 2.9 and later): it takes one matrix at a time, in bfloat16, and
does not split a fused qkv weight. One step of the demo model took 6.9 s of processor time with it
and 0.37 s with this one, on one core with AVX2 and without bfloat16 instructions; a whole training
step takes about 1 s.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # quintic with the steepest slope at zero, from the paper


def orthogonalise(matrices: Tensor, iterations: int = 5) -> Tensor:
    """The nearest semi-orthogonal matrices, roughly: singular values end in about [0.7, 1.2]. `[N,
    rows, columns]`.

    Wide matrices only (rows <= columns): the Gram matrix is then the small one.
    """
    if matrices.ndim != 3 or matrices.shape[1] > matrices.shape[2]:
        raise ValueError(
            f"expected [N, rows, columns] with rows <= columns, got {tuple(matrices.shape)}"
        )
    a, b, c = _COEFFICIENTS
    x = matrices / (matrices.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(iterations):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x


@dataclass
class _Group:
    """Parameters of one shape; `parts` matrices are stacked along the rows of each (3 for a fused
    qkv)."""

    parameters: list[Tensor]
    parts: int
    momentum: Tensor  # [number of parameters, rows, columns]


class Muon:
    """Muon with Nesterov momentum and decoupled weight decay for two-dimensional weights.

    A weight in `fused_qkv` holds query, key and value stacked along its rows; each third is
    orthogonalised by itself. An update is scaled by sqrt(max(1, rows / columns)), so that tall
    matrices move outputs as much as square ones.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        fused_qkv: Iterable[Tensor] = (),
        *,
        momentum: float = 0.95,
        weight_decay: float = 0.02,
        iterations: int = 5,
    ) -> None:
        self.momentum, self.weight_decay, self.iterations = momentum, weight_decay, iterations
        by_kind: dict[tuple[torch.Size, int], list[Tensor]] = {}
        for parts, members in ((1, parameters), (3, fused_qkv)):
            for parameter in members:
                if parameter.ndim != 2 or parameter.shape[0] % parts:
                    raise ValueError(
                        f"Muon takes matrices of {parts} stacked parts, got "
                        f"{tuple(parameter.shape)}"
                    )
                by_kind.setdefault((parameter.shape, parts), []).append(parameter)
        self._groups = [
            _Group(members, parts, torch.zeros(len(members), *shape, device=members[0].device))
            for (shape, parts), members in by_kind.items()
        ]

    def step(self, learning_rate: float) -> None:
        """Moves every parameter along its orthogonalised momentum; each one needs a gradient."""
        with torch.no_grad():
            directions = [self._direction(group) for group in self._groups]
            for group, update in zip(self._groups, self._orthogonal(directions), strict=True):
                rows, columns = update.shape[1] // group.parts, update.shape[2]
                scale = max(1.0, rows / columns) ** 0.5
                torch._foreach_mul_(group.parameters, 1 - learning_rate * self.weight_decay)
                torch._foreach_add_(
                    group.parameters, list(update.unbind(0)), alpha=-learning_rate * scale
                )

    def _direction(self, group: _Group) -> Tensor:
        gradients = torch.stack(
            [parameter.grad for parameter in group.parameters if parameter.grad is not None]
        )
        group.momentum.lerp_(gradients, 1 - self.momentum)
        return gradients.lerp(group.momentum, self.momentum)

    def _orthogonal(self, directions: list[Tensor]) -> list[Tensor]:
        """All groups whose parts have one shape, up to transposition, go through one batched
        iteration."""
        parts = [
            direction.reshape(-1, direction.shape[1] // group.parts, direction.shape[2])
            for group, direction in zip(self._groups, directions, strict=True)
        ]
        wide = [part if part.shape[1] <= part.shape[2] else part.mT for part in parts]
        result: list[Tensor] = [torch.empty(0)] * len(parts)
        for shape in {tuple(part.shape[1:]): None for part in wide}:
            members = [index for index, part in enumerate(wide) if tuple(part.shape[1:]) == shape]
            stacked = torch.cat([wide[index] for index in members])
            batched = orthogonalise(stacked, self.iterations)
            for index, piece in zip(
                members, torch.split(batched, [len(wide[i]) for i in members]), strict=True
            ):
                flat = piece if parts[index].shape[1] <= parts[index].shape[2] else piece.mT
                result[index] = flat.reshape(directions[index].shape)
        return result

    def state(self) -> dict[str, Tensor]:
        """Momentum by group, in the order of construction."""
        return {f"momentum.{index}": group.momentum for index, group in enumerate(self._groups)}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restores what `state` gave. Raises KeyError for a group that is missing."""
        for index, group in enumerate(self._groups):
            group.momentum.copy_(state[f"momentum.{index}"])


def is_block_matrix(name: str, parameter: Tensor) -> bool:
    """Muon's share: the two-dimensional weights of the transformer blocks of aggregator and image
    encoder."""
    blocks = ("frame_blocks.", "global_blocks.", "patch_embed.blocks.")
    return parameter.ndim == 2 and any(
        name.startswith(f"net.aggregator.{prefix}") for prefix in blocks
    )
