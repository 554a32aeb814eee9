from __future__ import annotations

import pytest
import torch

from model import VGGT
from model.families.vggt.presets import PRESETS
from model.network.observation import observed
from tests.model.conftest import tiny_config


@pytest.fixture(scope="module")
def net() -> VGGT:
    torch.manual_seed(0)
    return VGGT(PRESETS["demo"]).eval()


@pytest.fixture
def tracking() -> VGGT:
    torch.manual_seed(0)
    return VGGT(tiny_config()).eval()


def test_a_pass_is_followed_block_by_block_to_its_end(net: VGGT) -> None:
    seen: list[tuple[str, float]] = []
    with torch.inference_mode(), observed(net, lambda stage, share: seen.append((stage, share))):
        net(torch.rand(2, 3, 96, 96))
    shares = {
        stage: [share for name, share in seen if name == stage] for stage in ("aggregator", "heads")
    }
    assert len(shares["aggregator"]) == len(net.blocks()) == 2 + 2 * net.config.depth
    assert len(shares["heads"]) == 3
    for share in shares.values():
        assert share == sorted(share)
        assert share[-1] == 1.0


def test_what_the_observer_raises_ends_the_pass_and_the_network_works_on(net: VGGT) -> None:
    def stop(stage: str, share: float) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError), torch.inference_mode(), observed(net, stop):
        net(torch.rand(1, 3, 96, 96))
    with torch.inference_mode():
        assert net(torch.rand(1, 3, 96, 96)).depth is not None


@pytest.mark.parametrize(("queries", "heads"), [(None, 3), (torch.tensor([[5.0, 6.0]]), 4)])
def test_the_track_head_counts_only_where_it_runs(
    tracking: VGGT, queries: torch.Tensor | None, heads: int
) -> None:
    seen: list[float] = []

    def note(stage: str, share: float) -> None:
        if stage == "heads":
            seen.append(share)

    with torch.inference_mode(), observed(tracking, note, queries is not None):
        tracking(torch.rand(2, 3, 56, 56), queries)
    assert seen == [(i + 1) / heads for i in range(heads)]
