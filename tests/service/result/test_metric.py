from __future__ import annotations

import numpy as np
import pytest

from service.result.metric import document_in_metres, scene_in_metres
from service.result.scene import Scene


def test_every_length_of_a_scene_is_in_metres_and_pictures_look_the_same(
    scene: Scene, refined_scene: Scene
) -> None:
    for each in (scene, refined_scene):
        metric = scene_in_metres(each, 2.5)
        assert metric.document == document_in_metres(each.document, 2.5)
        assert metric.document.scale.unit == "metre"
        assert "metre" in metric.document.world_frame
        np.testing.assert_allclose(metric.world_points(1), 2.5 * each.world_points(1), atol=1e-5)
        np.testing.assert_array_equal(metric.intrinsics(), each.intrinsics())
        before, after = each.document.pictures[1].depth, metric.document.pictures[1].depth
        assert after.max == pytest.approx(2.5 * before.max)
        assert after.png_scale == pytest.approx(2.5 * before.png_scale)
    sparse, metric_sparse = refined_scene.sparse, scene_in_metres(refined_scene, 2.5).sparse
    assert sparse is not None
    assert metric_sparse is not None
    np.testing.assert_allclose(metric_sparse.xyz, 2.5 * sparse.xyz)
    np.testing.assert_allclose(
        scene_in_metres(refined_scene, 2.5).dense_points(0),
        2.5 * refined_scene.dense_points(0),
        atol=1e-5,
    )
