from __future__ import annotations

import pytest
import torch
from torch import Tensor

from model.scene.pose_graph import Edge, optimise
from model.scene.sim3 import exponential, logarithm

IDENTITY = torch.eye(4, dtype=torch.float64)


def random(count: int, spread: float, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return exponential(spread * torch.randn(count, 7, generator=generator, dtype=torch.float64))


def walk(steps: Tensor) -> Tensor:
    """Nodes `[K + 1, 4, 4]` that are `steps` `[K, 4, 4]` apart."""
    nodes = [IDENTITY]
    for step in steps:
        nodes.append(nodes[-1] @ step)
    return torch.stack(nodes)


def between(nodes: Tensor, first: int, second: int) -> Tensor:
    return torch.linalg.solve(nodes[first], nodes[second])


def errors(found: Tensor, true: Tensor) -> Tensor:
    return logarithm(torch.linalg.solve(true, found))


def test_edges_that_agree_are_fitted_exactly_from_a_wrong_start() -> None:
    true = walk(random(6, 0.4))
    edges = [Edge(k, k + 1, between(true, k, k + 1), 0.1) for k in range(6)]
    edges += [Edge(0, 4, between(true, 0, 4), 0.2), Edge(1, 6, between(true, 1, 6), 0.3)]
    start = torch.cat((true[:1], true[1:] @ random(6, 0.1, seed=1)))
    torch.testing.assert_close(optimise(start, edges), true, atol=1e-8, rtol=1e-8)


def test_node_0_stays_where_it_is() -> None:
    start = walk(random(2, 0.3)) @ random(1, 0.5, seed=2)
    edges = [Edge(0, 1, IDENTITY, 1.0), Edge(1, 2, IDENTITY, 1.0)]
    found = optimise(start, edges)
    assert torch.equal(found[0], start[0])
    torch.testing.assert_close(found[1:], start[:1].expand(2, -1, -1))


def test_between_two_edges_that_disagree_the_surer_one_wins_by_its_variance() -> None:
    near, far = IDENTITY, exponential(torch.tensor([1.0, 0, 0, 0, 0, 0, 0], dtype=torch.float64))
    found = optimise(
        torch.stack((IDENTITY, IDENTITY)), [Edge(0, 1, near, 0.1), Edge(0, 1, far, 0.3)]
    )
    assert found[1, 0, 3].item() == pytest.approx(0.1)  # (1 / 0.09) of (1 / 0.01 + 1 / 0.09)


def test_a_closed_chain_drifts_as_a_brownian_bridge_does() -> None:
    """Of a walk with independent errors, node k of n has variance k; tied to the truth at its end,
    k (n - k) / n. Over the whole walk that is 3 n / (n - 1) times less. It turns on the spot: a
    path would mix the coordinates."""
    n, noise, chains = 12, 0.01, 60
    generator = torch.Generator().manual_seed(3)
    before = after = 0.0
    for _ in range(chains):
        turns = torch.zeros(n, 7, dtype=torch.float64)
        turns[:, 3:6] = 0.3 * torch.randn(n, 3, generator=generator, dtype=torch.float64)
        steps = exponential(turns)
        slips = exponential(noise * torch.randn(n, 7, generator=generator, dtype=torch.float64))
        true, drifted = walk(steps), walk(steps @ slips)
        edges = [Edge(k, k + 1, between(drifted, k, k + 1), noise) for k in range(n)]
        closed = optimise(drifted, [*edges, Edge(0, n, between(true, 0, n), 1e-4 * noise)])
        before += float(errors(drifted, true).square().sum())
        after += float(errors(closed, true).square().sum())
    assert before / after == pytest.approx(3 * n / (n - 1), rel=0.1)


def test_a_false_loop_among_true_ones_pulls_less_when_it_is_robust() -> None:
    true = walk(random(8, 0.3))
    chain = [Edge(k, k + 1, between(true, k, k + 1), 0.05) for k in range(8)]
    loops = [Edge(0, k, between(true, 0, k), 0.05) for k in (5, 6, 8)]
    false = between(true, 0, 7) @ random(1, 1.0, seed=4)[0]
    plain = optimise(true, [*chain, *loops, Edge(0, 7, false, 0.05)])
    robust = optimise(true, [*chain, *loops, Edge(0, 7, false, 0.05, robust=True)])
    assert errors(robust, true).norm() < 0.1 * errors(plain, true).norm()
