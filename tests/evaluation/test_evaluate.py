from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor

from evaluation.evaluate import compare, evaluate
from model import VGGT
from model.families.family import Geometry
from model.families.vggt.presets import PRESETS
from model.reconstruct import geometry
from scenes.scene import Scene
from scenes.synthetic.generator import SyntheticScenes


def test_a_network_that_knows_the_truth_scores_100_and_no_error(
    scenes: list[Scene], oracle: Callable
) -> None:
    report = evaluate(oracle(scenes), scenes, resamples=20)
    assert {t: found.value for t, found in report.auc.items()} == pytest.approx(
        {30: 100, 15: 100, 5: 100, 3: 100}
    )
    assert report.focal_error.value == 0
    assert report.abs_rel.value == pytest.approx(0, abs=1e-5)
    assert report.delta.value == 1
    assert report.point_error.value == pytest.approx(0, abs=1e-4)
    assert report.point_head_error.value == pytest.approx(0, abs=1e-4)
    assert report.rotation_median.value < 1e-3
    assert report.translation_median.value < 1e-2
    assert report.constant_abs_rel.value > 0.2
    assert not report.failures
    assert not report.skipped
    assert report.surface is None


def test_the_more_a_network_errs_the_worse_every_score(
    scenes: list[Scene], oracle: Callable
) -> None:
    slight = evaluate(oracle(scenes, turn_deg=3, depth_noise=0.05), scenes, resamples=20)
    strong = evaluate(oracle(scenes, turn_deg=12, depth_noise=0.3), scenes, resamples=20)
    for threshold in (30, 15, 5):
        assert strong.auc[threshold].value < slight.auc[threshold].value < 100
    for name in ("abs_rel", "point_error", "rotation_median", "translation_median"):
        assert getattr(strong, name).value > getattr(slight, name).value > 1e-3
    assert strong.delta.value < slight.delta.value
    assert slight.auc[5].low <= slight.auc[5].value <= slight.auc[5].high


def test_the_focal_error_is_a_share_and_at_most_1(make_scene: Callable, oracle: Callable) -> None:
    scene = make_scene("zoomed", views=2)

    def error(*factors: float) -> float:
        def zoomed(images: Tensor) -> Geometry:
            found = oracle([scene])(images)
            scales = torch.tensor([[x, 1.0, 1.0] for x in factors]).double()
            return replace(found, intrinsics=found.intrinsics * scales[:, :, None])

        return evaluate(zoomed, [scene], resamples=5).focal_error.value

    assert error(0.8, 1) == pytest.approx(0.2 / 4)
    assert error(1.25, 1) == pytest.approx(0.2 / 4)
    assert error(-1, 1e9) == pytest.approx(2 / 4)


def test_what_was_evaluated_is_on_record(
    scenes: list[Scene], oracle: Callable, make_scene: Callable
) -> None:
    lonely = make_scene("lonely", views=1)
    report = evaluate(
        oracle(scenes),
        [*scenes, lonely],
        expected_categories=("chair", "toaster", "vase"),
        skipped=[("blurred", "viewpoint quality 0.3")],
        resamples=20,
        seed=5,
    )
    assert report.scenes == 6
    assert report.splits == ("test",)
    assert report.views == (2, 3, 4)
    assert report.missing_categories == ("toaster",)
    assert report.skipped == (
        ("blurred", "viewpoint quality 0.3"),
        ("lonely", "a relative pose needs at least 2 frames"),
    )
    assert [record.name for record in report.records] == [scene.name for scene in scenes]
    assert report.bootstrap_seed == 5
    assert set(report.category_auc) == {"chair", "vase"}


def test_a_report_survives_json_and_repeats_exactly(scenes: list[Scene], oracle: Callable) -> None:
    first, second = (
        evaluate(oracle(scenes, turn_deg=2), scenes, resamples=20).to_dict() for _ in range(2)
    )
    assert json.loads(json.dumps(first)) == json.loads(json.dumps(second))
    assert len(first["records"]) == 6
    assert "records" not in evaluate(oracle(scenes), scenes, resamples=2).to_dict(records=False)


def test_scenes_of_the_calibration_split_are_refused(scenes: list[Scene], oracle: Callable) -> None:
    with pytest.raises(ValueError, match="'scene-0' of split 'test' belongs to the data"):
        evaluate(oracle(scenes), scenes, calibration_splits=["test"])


def test_a_scene_that_was_calibrated_on_is_refused_in_any_split(
    scenes: list[Scene], oracle: Callable
) -> None:
    with pytest.raises(ValueError, match="'scene-3'"):
        evaluate(
            oracle(scenes),
            scenes,
            calibration_splits=["calibration"],
            calibration_scenes=["scene-3"],
        )


def test_a_prediction_that_is_not_finite_counts_as_wrong_and_is_named(
    scenes: list[Scene], oracle: Callable
) -> None:
    good = oracle(scenes)

    def broken_once(images: Tensor) -> Geometry:
        answer = good(images)
        if torch.equal(images, scenes[0].images):
            return replace(answer, depth=answer.depth * torch.nan)
        return answer

    report = evaluate(broken_once, scenes, resamples=20)
    assert report.failures == (("scene-0", "not finite: depth, unprojected depth"),)
    assert report.category_auc["chair"][30].value < 100
    assert report.category_auc["vase"][30].value == pytest.approx(100)
    assert report.records[0].abs_rel is None
    assert report.abs_rel.value == pytest.approx(0, abs=1e-5)


def test_scenes_without_depth_are_scored_by_their_poses(
    oracle: Callable, make_scene: Callable
) -> None:
    scenes = [make_scene(f"bare-{i}", depth=False) for i in range(3)]
    report = evaluate(oracle(scenes), scenes, resamples=20)
    assert report.auc[3].value == pytest.approx(100)
    assert report.abs_rel is None
    assert report.point_error is None
    assert report.constant_abs_rel is None


def test_no_scene_at_all_is_an_error_that_names_what_was_skipped(
    oracle: Callable, make_scene: Callable
) -> None:
    with pytest.raises(ValueError, match="lonely: a relative pose"):
        evaluate(oracle([]), [make_scene("lonely", views=1)])


def test_a_network_without_a_camera_head_is_refused(scenes: list[Scene]) -> None:
    with pytest.raises(ValueError, match="no camera head"):
        evaluate(lambda images: Geometry(None, None, None, None, None), scenes)


def test_surface_errors_of_the_truth_are_only_sampling_noise(
    oracle: Callable, make_scene: Callable
) -> None:
    scenes = [make_scene("one", views=2)]
    report = evaluate(oracle(scenes), scenes, surface=True, resamples=5)
    assert report.surface["overall_mean"].value == pytest.approx(0, abs=1e-3)
    assert report.surface["normal_consistency_mean"].value > 0.99


def test_a_network_does_not_deviate_from_itself(scenes: list[Scene], oracle: Callable) -> None:
    found = compare(oracle(scenes), oracle(scenes), scenes, resamples=20)
    for name in ("rotation_deg", "translation", "depth", "points"):
        assert getattr(found.deviation, name).value == 0


def test_the_deviation_measures_what_was_changed(scenes: list[Scene], oracle: Callable) -> None:
    noise = 0.1

    def changed(images: Tensor) -> Geometry:
        answer = oracle(scenes)(images)
        extrinsics = answer.extrinsics.clone()
        extrinsics[..., 3] *= 1.25
        return replace(answer, depth=answer.depth * (1 + noise), extrinsics=extrinsics)

    found = compare(oracle(scenes), changed, scenes, resamples=20)
    assert found.deviation.depth.value == pytest.approx(noise, rel=1e-4)
    assert found.deviation.translation.value == pytest.approx(0.25, rel=1e-4)
    assert found.deviation.rotation_deg.value == pytest.approx(0, abs=1e-4)
    assert 0 < found.deviation.points.value < 0.3
    turned = compare(oracle(scenes), oracle(scenes, turn_deg=4), scenes, resamples=20)
    # every camera is turned by 4 degrees, the first one too: at most 8 between them
    assert 1 < turned.deviation.rotation_deg.value <= 8
    assert turned.deviation.to_dict()["records"]
    assert turned.other.auc[5].value < turned.reference.auc[5].value


def test_a_real_network_is_scored_on_synthetic_scenes_and_leaves_them_as_they_were() -> None:
    torch.manual_seed(0)
    net = VGGT(replace(PRESETS["demo"], depth_head=None, point_head=None)).eval()
    report = evaluate(partial(geometry, net), SyntheticScenes("test", 2, 3, 24, 36), resamples=20)
    assert report.scenes == 2
    assert report.views == (3,)
    assert not report.failures
    assert all(len(record.rotation_deg) == 3 for record in report.records)
    assert report.abs_rel is None
    assert report.constant_abs_rel.value > 0
