"""Consistent places of a chain of worlds that loops tie together: least squares over Sim(3), by
Gauss and Newton.

After Strasdat et al., "Scale Drift-Aware Large Scale Monocular SLAM" (2010). A node is a world's
place in that of node 0, an edge says how one node's world lies in another's, its error is the
logarithm of what the nodes leave of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model.scene.sim3 import exponential, logarithm

_STEPS = 50
_SETTLED = 1e-9
_DIFFERENCE = 1e-6  # of central differences; their error is of its square
_TOLERATED = 3.0  # deviations at which a robust edge pulls half as strongly


@dataclass(frozen=True)
class Edge:
    """`measured` `[4, 4]` takes points of node `second`'s world into node `first`'s; it is
    uncertain by `deviation` in each logarithmic coordinate. A `robust` edge pulls the less the
    worse it fits (Cauchy's kernel)."""

    first: int
    second: int
    measured: Tensor
    deviation: float
    robust: bool = False


def optimise(nodes: Tensor, edges: Sequence[Edge]) -> Tensor:
    """The nodes `[K, 4, 4]`, float64, that fit `edges` best, searched from `nodes`; node 0 stays
    where it is.

    Every node must be tied to node 0 by edges.
    """
    graph = _Graph(edges)
    for _ in range(_STEPS):
        step = graph.step(nodes)
        nodes = torch.cat((nodes[:1], nodes[1:] @ exponential(step)))
        if step.abs().max() < _SETTLED:
            break
    return nodes


class _Graph:
    def __init__(self, edges: Sequence[Edge]) -> None:
        self.first = torch.tensor([edge.first for edge in edges])
        self.second = torch.tensor([edge.second for edge in edges])
        self.undone = torch.linalg.inv(torch.stack([edge.measured for edge in edges]))
        self.deviation = torch.tensor([edge.deviation for edge in edges], dtype=torch.float64)
        self.robust = torch.tensor([edge.robust for edge in edges])

    def step(self, nodes: Tensor) -> Tensor:
        """The change `[K - 1, 7]` of every node but the first, in its own world's coordinates."""
        a, b = nodes[self.first], nodes[self.second]
        errors = self._errors(a, b)
        pull = 1 / (1 + errors.square().mean(-1) / _TOLERATED**2)
        weight = torch.where(self.robust, pull, torch.ones_like(pull)).sqrt()[:, None]

        unit = _DIFFERENCE * torch.eye(7, dtype=torch.float64)
        onwards, back = exponential(unit)[:, None], exponential(-unit)[:, None]
        # [7, E, 7]
        by_first = (self._errors(a @ onwards, b) - self._errors(a @ back, b)) / (2 * _DIFFERENCE)
        by_second = (self._errors(a, b @ onwards) - self._errors(a, b @ back)) / (2 * _DIFFERENCE)

        count = len(self.first)
        jacobian = torch.zeros(count, 7, len(nodes), 7, dtype=torch.float64)
        rows = torch.arange(count)
        jacobian[rows, :, self.first] = by_first.permute(1, 2, 0)
        jacobian[rows, :, self.second] = by_second.permute(1, 2, 0)
        jacobian = (jacobian * weight[..., None, None])[:, :, 1:].flatten(2).flatten(0, 1)
        solution = torch.linalg.lstsq(jacobian, -(errors * weight).flatten()[:, None]).solution
        return solution.view(-1, 7)

    def _errors(self, a: Tensor, b: Tensor) -> Tensor:
        """`[..., E, 7]` of the edges' nodes `[..., E, 4, 4]`, in deviations."""
        return logarithm(self.undone @ torch.linalg.solve(a, b)) / self.deviation[:, None]
