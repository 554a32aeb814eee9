from __future__ import annotations

import pytest
import torch

from model import VGGT
from model.families.vggt.presets import PRESETS
from model.network.descriptor import described


@pytest.fixture(scope="module")
def net() -> VGGT:
    torch.manual_seed(0)
    return VGGT(PRESETS["demo"]).eval()


def test_each_pass_describes_its_frames_one_by_one(net: VGGT) -> None:
    images = torch.rand(3, 3, 48, 72, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode(), described(net) as found:
        net(images)
        net(images[[2, 0]])
    first, second = found
    assert first.shape == (3, 4 * 128)
    torch.testing.assert_close(second, first[[2, 0]])


def test_the_quarters_of_a_frame_are_told_apart(net: VGGT) -> None:
    images = torch.zeros(2, 3, 48, 48)
    images[0, :, :24], images[1, :, 24:] = 1.0, 1.0
    with torch.inference_mode(), described(net) as found:
        net(images)
    upper, lower = found[0].view(2, 128, 2, 2).mean(-1).unbind(-1)
    assert (upper[0] - lower[0]).norm() > 0.1 * upper[0].norm()


def test_outside_of_the_context_nothing_is_noted(net: VGGT) -> None:
    with torch.inference_mode(), described(net) as found:
        pass
    with torch.inference_mode():
        net(torch.rand(1, 3, 48, 48))
    assert found == []
    assert not net.aggregator.patch_embed._forward_hooks
