from __future__ import annotations

import pytest
import torch

from model.network import track_head
from model.network.config import TrackHeadConfig
from model.network.track_head import CorrelationPyramid


def test_many_points_are_compared_in_portions_with_the_same_result(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    generator = torch.Generator().manual_seed(0)
    pyramid = CorrelationPyramid(
        torch.randn(1, 2, 8, 16, 12, generator=generator), levels=3, radius=2
    )
    features = torch.randn(1, 2, 30, 8, generator=generator)
    places = 12 * torch.rand(1, 2, 30, 2, generator=generator)
    whole = pyramid.sample(features, places)
    monkeypatch.setattr(track_head, "_SIMILARITIES_AT_ONCE", 7 * 2 * 16 * 12)
    torch.testing.assert_close(pyramid.sample(features, places), whole)


def test_a_side_shorter_than_stated_is_too_short_for_the_pyramid() -> None:
    config = TrackHeadConfig(corr_levels=4)
    least = config.least_side // config.stride
    CorrelationPyramid(torch.zeros(1, 1, 2, least, 99), config.corr_levels, config.corr_radius)
    with pytest.raises(ValueError, match="too small"):
        CorrelationPyramid(
            torch.zeros(1, 1, 2, least - 1, 99), config.corr_levels, config.corr_radius
        )
