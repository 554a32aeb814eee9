"""Golden inputs and outputs of the public network at tiny sizes, within the tolerances that come
with them.

Another folder of the same format can be checked with `PARITY_DIR=... pytest tests/model -k
parity`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from evaluation.pose_metrics import pose_auc, pose_histogram, relative_pose_errors
from kernels import FORMATS, QuantizedLinear, reference
from kernels.hadamard import base_order
from model import VGGT, VGGTConfig
from model.families.vggt.aggregator import Aggregator
from model.families.vggt.cameras import cameras_to_pose_encoding, pose_encoding_to_cameras
from model.network.activations import (
    CONFIDENCE_ACTIVATIONS,
    VALUE_ACTIVATIONS,
    activate_dense,
    inverse_log,
)
from model.network.camera_head import CameraHead, activate_pose
from model.network.config import (
    CameraHeadConfig,
    DPTHeadConfig,
    TrackHeadConfig,
    VisionTransformerConfig,
)
from model.network.dpt_head import DPTHead
from model.network.position_maps import add_view_position_, view_grid
from model.network.rope import patch_positions, rotation
from model.network.track_head import (
    CorrelationPyramid,
    TrackHead,
    embed_flow,
    position_code,
    sample_bilinear,
)
from model.network.vision_transformer import VisionTransformer
from model.preprocess import preprocess_images
from model.rotations import matrix_to_quaternion, quaternion_to_matrix
from model.scene.geometry import (
    depth_to_camera_points,
    invert_extrinsics,
    pytorch3d_to_opencv,
    unproject_depth,
)
from quantization.dsfq import channel_scale, update_activation_maximum
from quantization.nfds import cluster_features, frame_similarity, noise_filter
from tests.kernels.rounded import rounded_input
from tests.model.golden import PARITY, Fixture, cases, fixtures


def _vit(values: dict[str, Any]) -> VisionTransformerConfig:
    return VisionTransformerConfig(**values)


def _network(values: dict[str, Any], **heads: Any) -> VGGTConfig:
    vit = values["patch_embed_vit"] if values["patch_embed"] == "dino_vit" else None
    absent = {f"{name}_head": None for name in ("camera", "depth", "point", "track")}
    plain = {
        k: tuple(v) if isinstance(v, list) else v
        for k, v in values.items()
        if k != "patch_embed_vit"
    }
    return VGGTConfig(**plain, patch_embed_vit=_vit(vit) if vit else None, **{**absent, **heads})


def _head(cls: type, values: dict[str, Any]) -> Any:
    """A head's configuration from the fixture's constructor values; width and patch size follow
    from the network."""
    kept = {
        k: tuple(v) if isinstance(v, list) else v
        for k, v in values.items()
        if k not in ("dim_in", "patch_size")
    }
    return cls(**kept)


@pytest.fixture(autouse=True)
def without_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def test_there_are_fixtures_to_check() -> None:
    assert list(PARITY.glob("*/config.json")), f"no fixture in {PARITY}"


@pytest.mark.parametrize("folder", fixtures("dino_vit"))
def test_image_encoder(folder: Path) -> None:
    fixture = Fixture(folder)
    net = VisionTransformer(_vit(fixture.config["module"]))
    net.load_state_dict(fixture.weights)
    for case, _ in cases(fixture):
        images = fixture.inputs[f"{case}.x"]
        encoded = net(images)
        fixture.check(f"{case}.x_prenorm", encoded.prenorm)
        fixture.check(f"{case}.x_norm_clstoken", encoded.class_token)
        fixture.check(f"{case}.x_norm_regtokens", encoded.register_tokens)
        fixture.check(f"{case}.x_norm_patchtokens", encoded.patch_tokens)
        rows, columns = (side // net.config.patch_size for side in images.shape[-2:])
        fixture.check(f"{case}.pos_embed_used", net.positions(rows, columns))


@pytest.mark.parametrize("folder", fixtures("aggregator"))
def test_aggregator(folder: Path) -> None:
    fixture = Fixture(folder)
    net = Aggregator(_network(fixture.config["module"]))
    net.load_state_dict(fixture.weights)
    for case, _ in cases(fixture):
        tokens = net(fixture.inputs[f"{case}.images"], range(net.config.depth))
        for layer, value in tokens.items():
            fixture.check(f"{case}.tokens.{layer}", value)
        fixture.check(f"{case}.patch_start_idx", torch.tensor(net.patch_start))


@pytest.mark.parametrize("folder", [*fixtures("camera_head"), *fixtures("camera_head_eps")])
def test_camera_head(folder: Path) -> None:
    fixture = Fixture(folder)
    values = fixture.config["module"]
    net = CameraHead(values["dim_in"], _head(CameraHeadConfig, values))
    net.load_state_dict(fixture.weights)
    for case, values in cases(fixture):
        tokens = fixture.inputs[f"{case}.tokens_last"]
        for i, encoding in enumerate(net(tokens[:, :, 0], values["num_iterations"])):
            fixture.check(f"{case}.pose_enc.{i}", encoding)


@pytest.mark.parametrize("folder", fixtures("dpt_heads"))
def test_dense_heads(folder: Path) -> None:
    fixture = Fixture(folder)
    for name, values in fixture.config["heads"].items():
        start = fixture.config["patch_start_idx"]
        net = DPTHead(values["dim_in"], values["patch_size"], start, _head(DPTHeadConfig, values))
        prefix = f"{name}."
        net.load_state_dict(
            {k.removeprefix(prefix): v for k, v in fixture.weights.items() if k.startswith(prefix)}
        )
        for case, size in cases(fixture):
            tokens = {i: fixture.inputs[f"{case}.tokens.{i}"] for i in net.layers}
            prediction, confidence = net(tokens, (size["H"], size["W"]), size["frames_chunk_size"])
            fixture.check(f"{case}.{name}.pred", prediction)
            fixture.check(f"{case}.{name}.conf", confidence)


@pytest.mark.parametrize("folder", fixtures("track_head"))
def test_track_head(folder: Path) -> None:
    fixture = Fixture(folder)
    values = fixture.config["module"]
    start = fixture.config["patch_start_idx"]
    net = TrackHead(values["dim_in"], values["patch_size"], start, _head(TrackHeadConfig, values))
    net.load_state_dict(fixture.weights)
    for case, size in cases(fixture):
        tokens = {i: fixture.inputs[f"{case}.tokens.{i}"] for i in net.layers}
        image_size = (size["H"], size["W"])
        query_points = fixture.inputs[f"{case}.query_points"]
        iters = size.get("iters", net.config.iters)

        maps = net.feature_extractor.features(tokens, image_size)
        fixture.check(f"{case}.feature_maps", maps)
        tracker, stride = net.tracker, net.config.stride
        normalised = tracker.fmap_norm(maps.movedim(2, -1)).movedim(-1, 2)
        query = query_points / stride
        features = tracker.query_features(normalised, query)
        fixture.check(f"{case}.query_track_feat", features)
        pyramid = CorrelationPyramid(normalised, net.config.corr_levels, net.config.corr_radius)
        frames = maps.shape[1]
        coords = query[:, None].expand(-1, frames, -1, -1)
        repeated = features[:, None].expand(-1, frames, -1, -1)
        fixture.check(f"{case}.corr_iter0", pyramid.sample(repeated, coords))
        inputs = tracker.update_inputs(
            coords, repeated, pyramid, tracker.place_code(normalised, query)
        ).transpose(1, 2)
        fixture.check(f"{case}.updateformer_in_iter0", inputs)
        fixture.check(f"{case}.updateformer_out_iter0", tracker.updateformer(inputs))

        tracks = net(tokens, image_size, query_points, iters)
        for i, position in enumerate(tracks.coords):
            fixture.check(f"{case}.coords.{i}", position)
        fixture.check(f"{case}.vis", tracks.visibility)
        if tracks.confidence is not None:
            fixture.check(f"{case}.conf", tracks.confidence)


@pytest.mark.parametrize("folder", fixtures("vggt"))
def test_whole_network(folder: Path) -> None:
    fixture = Fixture(folder)
    module = fixture.config["module"]
    kinds = {
        "camera_head": CameraHeadConfig,
        "depth_head": DPTHeadConfig,
        "point_head": DPTHeadConfig,
    }
    kinds["track_head"] = TrackHeadConfig
    heads = {name: _head(cls, module[name]) for name, cls in kinds.items() if name in module}
    net = VGGT(_network(module["aggregator"], **heads))
    net.load_state_dict(fixture.weights)
    for case, _ in cases(fixture):
        query_points = fixture.inputs.get(f"{case}.query_points")
        prediction = net(fixture.inputs[f"{case}.images"], query_points)
        for name in [
            key.removeprefix(f"{case}.") for key in fixture.outputs if key.startswith(f"{case}.")
        ]:
            if name != "images":
                fixture.check(f"{case}.{name}", getattr(prediction, name))


@pytest.mark.parametrize("folder", fixtures("activations"))
def test_activations_and_position_codes(folder: Path) -> None:
    fixture = Fixture(folder)
    config, inputs = fixture.config, fixture.inputs
    for name in config["activations"]:
        assert name in VALUE_ACTIVATIONS
        fixture.check(f"act.{name}.pred", activate_dense(inputs["head_out"], name, "expp1")[0])
    for name in CONFIDENCE_ACTIVATIONS:
        fixture.check(f"act.conf.{name}", activate_dense(inputs["head_out"], "linear", name)[1])
    fixture.check("inv_log", inverse_log(inputs["pose_raw"]))
    fixture.check("pose.lin_lin_relu", activate_pose(inputs["pose_raw"]))
    for name, (width, height, aspect, channels) in config["uv"].items():
        grid = view_grid(width, height, aspect)
        fixture.check(f"uv.{name}.grid", grid)
        code = add_view_position_(torch.zeros(1, channels, height, width), aspect, gain=1.0)
        fixture.check(f"uv.{name}.embed", code[0].permute(1, 2, 0))
    rows, columns = config["grid"]
    queries = inputs["rope_in"]
    positions = patch_positions(rows, columns, config["n_special"]).expand(len(queries), -1, -1)
    fixture.check("rope.positions", positions)
    fixture.check(
        "rope.out", rotation(positions, queries.shape[-1], config["rope_freq"]).apply(queries)
    )
    fixture.check("track.flow_embedding", embed_flow(inputs["flows"], config["flow_C"]))
    fixture.check("track.sampled", sample_bilinear(inputs["fmap"], inputs["coords"]))
    height, width = config["sincos_grid"]
    fixture.check("track.sincos", position_code(height, width, config["sincos_dim"]))


@pytest.mark.parametrize("folder", fixtures("geometry"))
def test_geometry(folder: Path) -> None:
    fixture = Fixture(folder)
    inputs = fixture.inputs
    fixture.check("mat_from_quat", quaternion_to_matrix(inputs["quats"]))
    fixture.check("quat_from_mat", matrix_to_quaternion(inputs["rotations"]))
    fixture.check("se3_inverse_torch", invert_extrinsics(inputs["se3"]))
    for name, size in fixture.config["image_sizes"].items():
        extrinsics, intrinsics = pose_encoding_to_cameras(inputs["pose_enc"], tuple(size))
        fixture.check(f"{name}.extrinsics", extrinsics)
        expected = fixture.outputs[f"{name}.intrinsics"]
        torch.testing.assert_close(intrinsics, expected, atol=0, rtol=1e-4)
        encoded = cameras_to_pose_encoding(
            inputs["cam_extrinsics"], inputs["cam_intrinsics"], tuple(size)
        )
        fixture.check(f"{name}.pose_enc_from_cams", encoded)
        fixture.check(
            f"{name}.pose_enc_roundtrip",
            cameras_to_pose_encoding(extrinsics, intrinsics, tuple(size)),
        )
    depth, intrinsics = inputs["depth"], inputs["unproj_intrinsics"]
    camera_points = depth_to_camera_points(depth[0, ..., 0], intrinsics[0])
    fixture.check("cam_points_frame0", camera_points)
    world = unproject_depth(depth, inputs["unproj_extrinsics"].double(), intrinsics)
    fixture.check("world_points", world)


@pytest.mark.parametrize("folder", fixtures("pose_metrics"))
def test_pose_metrics(folder: Path) -> None:
    fixture = Fixture(folder)
    inputs = fixture.inputs
    errors = []
    for i in range(fixture.config["num_sequences"]):
        rotation_deg, translation_deg = relative_pose_errors(inputs[f"pred.{i}"], inputs[f"gt.{i}"])
        close_to_zero = fixture.outputs[f"rot_err_deg.{i}"] < 1e-3  # arccos near one
        expected = fixture.outputs[f"rot_err_deg.{i}"]
        atol = torch.where(close_to_zero, 1e-4, 1e-5)
        assert ((rotation_deg - expected).abs() <= atol).all()
        fixture.check(f"trans_err_deg.{i}", translation_deg)
        errors.append((rotation_deg, translation_deg))
    rotations, translations = (torch.cat(part) for part in zip(*errors, strict=True))
    for threshold in (30, 15, 5, 3):
        fixture.check(f"hist.{threshold}", pose_histogram(rotations, translations, threshold))
        auc = torch.tensor(pose_auc(rotations, translations, threshold) / 100, dtype=torch.float64)
        fixture.check(f"auc.{threshold}", auc)
    fixture.check("edge_hist5", pose_histogram(inputs["edge_r"], inputs["edge_t"], 5))
    edge_auc = torch.tensor(
        pose_auc(inputs["edge_r"], inputs["edge_t"], 5) / 100, dtype=torch.float64
    )
    fixture.check("edge_auc5", edge_auc)
    fixture.check("pt3d_to_opencv", pytorch3d_to_opencv(inputs["pt3d_R"], inputs["pt3d_T"]))


@pytest.mark.parametrize("folder", fixtures("preprocess"))
def test_preprocessing(folder: Path) -> None:
    fixture = Fixture(folder)
    for case in fixture.config["cases"].values():
        files = [folder / "inputs" / name for name in case["files"]]
        images = preprocess_images(
            files, mode=case["mode"], image_size=fixture.config["target_size"]
        ).images
        assert list(images.shape) == case["shape"]
        assert str(images.dtype) == f"torch.{case['dtype']}"
        for image, expected in zip(images, case["expected"], strict=True):
            # bit for bit, since Pillow does the resize here as there
            with Image.open(folder / "expected" / expected["file"]) as picture:
                want = torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255
            assert torch.equal(image, want), expected["file"]
            pixels = (image.permute(1, 2, 0) * 255).round().byte().numpy()
            assert hashlib.sha256(pixels.tobytes()).hexdigest() == expected["sha256_uint8_hwc"]


def _ties(got: Tensor, expected: Tensor, step: Tensor, atol: float) -> Tensor:
    """Which elements a rounding tie moved by one step: at most 0.5 % of them; all others must be
    equal."""
    error = (got - expected).abs()
    moved = error > atol
    assert moved.float().mean() <= 0.005, f"{int(moved.sum())} of {moved.numel()} elements differ"
    assert (error <= step.expand_as(error) * 1.01 + atol).all()
    return moved


def _turns_alike(width: int) -> bool:
    """Whether our rotation of this width is the public code's, which knows more base matrices."""
    try:
        return base_order(width) <= 12
    except ValueError:
        return False


@pytest.mark.parametrize("folder", fixtures("quant_linear"))
def test_quantised_linear(folder: Path) -> None:
    fixture = Fixture(folder)
    for case, values in fixture.config["cases"].items():
        weights = {
            k.removeprefix(f"{case}."): v
            for k, v in fixture.weights.items()
            if k.startswith(f"{case}.")
        }
        inputs = {
            k.removeprefix(f"{case}."): v
            for k, v in fixture.inputs.items()
            if k.startswith(f"{case}.")
        }
        outputs = {
            k.removeprefix(f"{case}."): v
            for k, v in fixture.outputs.items()
            if k.startswith(f"{case}.")
        }
        turn = weights.get("rotation_matrix")
        weight, x = weights["weight"], inputs["x"]
        calibration = [inputs[f"calib.{i}"] for i in range(values["num_calib"])]
        signs = None
        if turn is not None and _turns_alike(len(turn)):
            signs = reference.rotation_signs(turn)
            torch.testing.assert_close(reference.rotation_matrix(signs), turn, atol=1e-6, rtol=0)
        elif (
            turn is not None
        ):  # larger base matrices are a matter of choice: turn by the fixture's own
            weight, x, calibration = (
                weight @ turn,
                x @ turn,
                [batch @ turn for batch in calibration],
            )

        if values["smooth"]:
            maximum = None
            for batch in calibration:
                maximum = update_activation_maximum(
                    maximum, batch if signs is None else reference.rotate(batch, signs)
                )
            assert maximum is not None
            torch.testing.assert_close(maximum, outputs["act_scale"][0], atol=2e-5, rtol=0)
            # the published code takes the maximum of the weight before rotation
            scale = channel_scale(maximum, weights["weight"].abs().amax(dim=0))
            torch.testing.assert_close(scale, outputs["channel_scale_init"][0], atol=2e-5, rtol=0)

        smoothing = inputs["channel_scale_learned"][0] if values["smooth"] else None
        clips: dict[str, Any] = {}
        if values["lwc"]:
            clips["weight_clip"] = torch.cat(
                (weights["clip_factor_w_min"], weights["clip_factor_w_max"]), 1
            ).sigmoid()
        if values["lac"]:
            clips["activation_clip"] = torch.cat(
                (weights["clip_factor_a_min"], weights["clip_factor_a_max"])
            ).sigmoid()
        scheme = FORMATS[f"w{values['w_bits']}a{values['a_bits']}"]
        layer = QuantizedLinear.from_float(
            scheme, weight, weights["bias"], signs=signs, smoothing=smoothing, **clips
        )
        atol = fixture.config["atol"]["*"]
        torch.testing.assert_close(
            layer.weight_scale[:, None], outputs["weight_scale"], atol=atol, rtol=0
        )
        dequantised = layer.weight_codes().float() * layer.weight_scale[:, None]
        other_weights = _ties(
            dequantised, outputs["weight_fake_quant"], outputs["weight_scale"], atol
        )
        codes, scale = rounded_input(layer, x)
        torch.testing.assert_close(scale, outputs["act_token_scale"], atol=atol, rtol=0)
        other_codes = _ties(
            codes * scale, outputs["act_fake_quant"], outputs["act_token_scale"], atol
        )
        # outputs downstream of a tie
        touched = other_codes.any(dim=-1, keepdim=True) | other_weights.any(dim=-1)
        for name in ("eval_forward", "train_forward"):
            error = (layer(x) - outputs[name]).abs()
            assert (error[~touched] <= atol).all(), f"{case}.{name}"
            # one step of a code times the largest factor that it meets
            assert (
                error
                <= dequantised.abs().amax() * scale
                + outputs["weight_scale"].amax() * x.abs().amax()
            ).all()


@pytest.mark.parametrize("folder", fixtures("nfds"))
def test_calibration_sampling(folder: Path) -> None:
    fixture = Fixture(folder)
    count = fixture.config["num_samples"]
    features = torch.stack(
        [frame_similarity(fixture.inputs[f"tokens.{i}"], num_special=5) for i in range(count)]
    ).double()
    torch.testing.assert_close(
        features, fixture.outputs["features"], atol=fixture.config["atol"]["features"], rtol=0
    )
    kept = noise_filter(
        fixture.inputs["ln_mean"], fixture.inputs["ln_std"], fixture.config["categories"]
    )
    assert kept == fixture.outputs["kept"].tolist()
    assert sorted(set(range(count)) - set(kept)) == fixture.outputs["removed"].tolist()
    labels = torch.as_tensor(
        cluster_features(fixture.outputs["features"], fixture.config["n_clusters"])
    )
    fixture.check("same_cluster", labels[:, None] == labels[None])
