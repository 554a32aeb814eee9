from __future__ import annotations

import torch

from model.families.depth_anything_3.network import DepthAnything3
from model.families.depth_anything_3.stages import DepthAnything3Stages
from model.families.family import Kept


@torch.no_grad()
def test_the_camera_decoder_sees_in_calibration_what_it_sees_in_a_pass(
    net: DepthAnything3,
) -> None:
    images = torch.rand(5, 3, 28, 42, generator=torch.Generator().manual_seed(1))
    seen: list[torch.Tensor] = []
    assert net.cam_dec is not None
    net.cam_dec.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    net(images[None])
    stages = DepthAnything3Stages(net)
    kept: Kept = {}
    tokens = stages.begin(images)
    for stage in stages.row:
        tokens = stages.enter(stage, tokens, images, kept)
        if stage.name == "cam_dec":
            break
        tokens = stages.run(stage, net.get_submodule(stage.name), tokens, images)
        stages.leave(stage, tokens, images, kept)
    assert kept["order"].tolist() != [[0, 1, 2, 3, 4]]  # another view than the first is looked at
    torch.testing.assert_close(tokens, seen[0])
