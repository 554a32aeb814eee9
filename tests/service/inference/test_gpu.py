from __future__ import annotations

from pathlib import Path

import pytest
import torch

from model.files.artifact import load
from model.files.storage import kept_codes
from model.network.execution import autocast
from service.inference.gpu import prepare, sent


def test_on_a_cpu_weights_stay_small(artifact: Path) -> None:
    net = load(artifact)
    layers = [layer for layer in net.modules() if kept_codes(layer) is not None]
    assert layers
    prepare(net, torch.device("cpu"), 56)
    assert all(kept_codes(layer) is not None for layer in layers)


def test_pictures_arrive_as_they_were() -> None:
    images = torch.rand(2, 3, 14, 14)
    assert torch.equal(sent(images, torch.device("cpu")), images)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")
def test_on_a_gpu_weights_are_multiplied_out_and_a_pass_keeps_its_bits(artifact: Path) -> None:
    device = torch.device("cuda", 0)
    net = load(artifact, device)
    images = sent(torch.rand(2, 3, 56, 56), device)
    with torch.inference_mode(), autocast(device):
        before = net(images).depth
        prepare(net, device, 56)
        after = net(images).depth
    assert all(kept_codes(head) is None for head in net.dense()[0].modules())
    torch.testing.assert_close(after, before, rtol=0.02, atol=0.02)
