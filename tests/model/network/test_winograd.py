from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from kernels import kernel_path
from model.network import winograd


@pytest.mark.parametrize("size", [(8, 8), (1, 1), (5, 14), (13, 3), (28, 37)])
@pytest.mark.parametrize("with_bias", [True, False])
def test_it_is_a_convolution_with_a_margin_of_zeros(
    monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], with_bias: bool
) -> None:
    monkeypatch.setattr(winograd, "_TILES_AT_ONCE", 8)  # so that some maps take several strips
    torch.manual_seed(0)
    x, weight = torch.randn(2, 48, *size) + 1, torch.randn(16, 48, 3, 3)
    bias = torch.randn(16) if with_bias else None
    exact = F.conv2d(
        x.double(), weight.double(), None if bias is None else bias.double(), padding=1
    )
    found = winograd.convolve(x, weight, bias)
    assert found.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(found.double(), exact, rtol=0, atol=3e-5 * float(exact.std()))


def test_neither_threads_nor_other_maps_change_a_bit() -> None:
    torch.manual_seed(0)
    x, weight, bias = torch.randn(3, 128, 32, 41), torch.randn(128, 128, 3, 3), torch.randn(128)
    before = torch.get_num_threads()
    found = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        found.append(winograd.convolve(x, weight, bias))
        found.append(torch.cat([winograd.convolve(one[None], weight, bias) for one in x]))
    torch.set_num_threads(before)
    assert all(torch.equal(other, found[0]) for other in found[1:])


@torch.no_grad()
def test_what_it_would_not_speed_up_is_left_to_plain_convolutions() -> None:
    large = torch.empty(1, 256, 28, 37)
    assert winograd.pays(large, 256) == ("tile_factors" in kernel_path().operators)
    assert not winograd.pays(large[..., :14, :19], 256)
    assert not winograd.pays(large, 16)
    assert not winograd.pays(large[:, :32], 256)
    assert not winograd.pays(large.bfloat16(), 256)
    assert not winograd.pays(large.to("meta"), 256)
    with torch.enable_grad():
        assert not winograd.pays(large, 256)
