from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from kernels import FORMATS, QuantizedLinear
from model import VGGT, families
from model.errors import ArtifactError
from model.files.artifact import layer_shapes, load, read_manifest, replace_linear, save
from model.files.checkpoint import build_empty
from model.files.domain import Domain
from model.files.manifest import MANIFEST, TENSORS, VERSION
from quantization.convert import quantize_network
from quantization.recipe import Recipe


@pytest.fixture
def quantized(net: VGGT) -> VGGT:
    return quantize_network(net, Recipe())


@pytest.fixture
def artifact(quantized: VGGT, tmp_path: Path) -> Path:
    save(
        quantized,
        tmp_path / "artifact",
        recipe=Recipe().of(families.named("vggt")).to_dict(),
        provenance={"checkpoint": "tiny"},
    )
    return tmp_path / "artifact"


def test_loading_gives_the_same_answer_bit_for_bit(artifact: Path) -> None:
    images = torch.rand(2, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        first, again = load(artifact)(images), load(artifact)(images)
    assert torch.equal(first.depth, again.depth)


def test_loading_keeps_every_code_and_rounds_floats_to_half_and_large_weights_to_eight_bits(
    quantized: VGGT, artifact: Path
) -> None:
    loaded = load(artifact)
    assert not loaded.training
    in_eight_bits = []
    for name, value in quantized.state_dict().items():
        owner, _, leaf = name.rpartition(".")
        stored = getattr(loaded.get_submodule(owner), leaf)
        if isinstance(quantized.get_submodule(name.rpartition(".")[0]), QuantizedLinear):
            assert torch.equal(stored, value), name
        elif not torch.equal(stored, value.half().float()):
            in_eight_bits.append(name)
            step = value.flatten(1).abs().amax(dim=1) / 127
            assert ((stored - value).flatten(1).abs() <= 0.5001 * step[:, None]).all(), name
    assert "aggregator.patch_embed.patch_embed.proj.weight" in in_eight_bits
    assert all(quantized.get_parameter(name).numel() >= 2**14 for name in in_eight_bits)


def test_weights_are_really_packed(quantized: VGGT, artifact: Path) -> None:
    layer = quantized.get_submodule("aggregator.frame_blocks.0.attn.qkv")
    assert isinstance(layer, QuantizedLinear)
    assert layer.format == FORMATS["w4a4"]
    assert layer.weight.nbytes == 96 * 32 // 2
    constants = quantized.aggregator.normalisation.buffers()
    codes = sum(buffer.nbytes for buffer in quantized.buffers())
    codes -= sum(buffer.nbytes for buffer in constants)
    weights = [
        module.weight
        for module in quantized.modules()
        if isinstance(module, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d))
        and module.weight.numel() >= 2**14
    ]
    eight_bits = sum(weight.numel() + 4 * weight.shape[0] for weight in weights)
    floats = 2 * (
        sum(p.numel() for p in quantized.parameters()) - sum(weight.numel() for weight in weights)
    )
    content = (artifact / TENSORS).read_bytes()
    header = 8 + struct.unpack("<Q", content[:8])[0]
    assert len(content) - header == codes + eight_bits + floats


def test_the_manifest_tells_what_the_artifact_is(artifact: Path) -> None:
    manifest = read_manifest(artifact)
    assert manifest["layers"]["aggregator.global_blocks.1.mlp.fc2"] == {
        "scheme": "w4a4",
        "tensors": ["bias", "signs"],
    }
    assert manifest["family"] == "vggt"
    assert manifest["recipe"]["aggregator"] == "w4a4"
    assert manifest["provenance"] == {"checkpoint": "tiny"}
    assert manifest["files"][TENSORS]["bytes"] == (artifact / TENSORS).stat().st_size


def test_a_weight_too_large_for_half_precision_survives(net: VGGT, tmp_path: Path) -> None:
    with torch.no_grad():
        net.depth_head.norm.weight[0] = 1e6
    save(quantize_network(net, Recipe()), tmp_path / "artifact")
    assert load(tmp_path / "artifact").depth_head.norm.weight[0].item() == 1e6


def test_heads_that_were_left_out_stay_out(net: VGGT, tmp_path: Path) -> None:
    net.track_head, net.config = None, net.config.with_heads(("camera", "depth", "point"))
    save(quantize_network(net, Recipe()), tmp_path / "artifact")
    assert load(tmp_path / "artifact").config.heads == ("camera", "depth", "point")


@torch.no_grad()
def test_a_head_that_nobody_reads_need_not_be_loaded(quantized: VGGT, artifact: Path) -> None:
    whole, lean = load(artifact), load(artifact, without=("point",))
    assert "point" in whole.config.heads
    assert lean.config.heads == tuple(head for head in whole.config.heads if head != "point")
    images = torch.rand(2, 3, 28, 28)
    expected, got = whole(images), lean(images)
    assert got.world_points is None
    assert torch.equal(got.depth, expected.depth)
    assert torch.equal(got.pose_enc, expected.pose_enc)


LAYER = "aggregator.global_blocks.1.mlp.fc2"


@pytest.mark.parametrize("wide_activations", [False, True])
def test_a_layer_comes_with_what_its_activations_need(
    quantized: VGGT, tmp_path: Path, wide_activations: bool
) -> None:
    narrow = quantized.get_submodule(LAYER)
    assert isinstance(narrow, QuantizedLinear)
    wide = narrow.with_activations(
        FORMATS["w4a8"], 2 * narrow.weight_scale, narrow.bias, torch.tensor([0.9, 0.9])
    )
    save(quantized, tmp_path / "both", wide={LAYER: wide})
    assert read_manifest(tmp_path / "both")["layers"][LAYER]["wide"] == {
        "scheme": "w4a8",
        "tensors": ["weight_scale", "bias", "activation_clip"],
    }
    found = load(tmp_path / "both", wide_activations=wide_activations).get_submodule(LAYER)
    expected = wide if wide_activations else narrow
    assert found.format == expected.format
    x = torch.randn(5, narrow.in_features, generator=torch.Generator().manual_seed(0))
    assert torch.equal(found(x), expected(x))


def test_an_artifact_without_anything_for_8_bit_activations_takes_them_unclipped(
    quantized: VGGT, artifact: Path
) -> None:
    narrow = quantized.get_submodule(LAYER)
    found = load(artifact, wide_activations=True).get_submodule(LAYER)
    assert isinstance(narrow, QuantizedLinear)
    expected = narrow.with_activations(FORMATS["w4a8"], narrow.weight_scale, narrow.bias)
    x = torch.randn(5, narrow.in_features, generator=torch.Generator().manual_seed(0))
    assert found.format == FORMATS["w4a8"]
    assert torch.equal(found(x), expected(x))


def test_artifacts_of_version_2_are_read(artifact: Path) -> None:
    manifest = json.loads((artifact / MANIFEST).read_text())
    (artifact / MANIFEST).write_text(json.dumps({**manifest, "version": 2}))
    assert load(artifact).config.heads


def test_shapes_are_told_without_reading_a_weight(quantized: VGGT, artifact: Path) -> None:
    shapes = layer_shapes(artifact)
    layers = [m for m in quantized.modules() if isinstance(m, QuantizedLinear)]
    assert shapes.total() == len(layers)
    assert {(s.out_features, s.in_features) for s in shapes} == {
        (layer.out_features, layer.in_features) for layer in layers
    }
    assert all(shape.rotated and not shape.smoothed for shape in shapes)


def test_an_existing_artifact_is_only_overwritten_when_asked(
    quantized: VGGT, artifact: Path
) -> None:
    with pytest.raises(ArtifactError, match="exists"):
        save(quantized, artifact)
    save(quantized, artifact, overwrite=True)
    load(artifact)


def test_a_folder_with_other_things_is_never_overwritten(quantized: VGGT, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("ten years of work")
    with pytest.raises(ArtifactError, match="is not an artifact, so it is not overwritten"):
        save(quantized, tmp_path, overwrite=True)
    assert (tmp_path / "thesis.txt").exists()


def test_a_failed_save_leaves_nothing_behind(net: VGGT, tmp_path: Path) -> None:
    broken = build_empty(net.config)
    layer = QuantizedLinear.from_float(FORMATS["w4a4"], torch.randn(32, 32))
    replace_linear(broken, "aggregator.frame_blocks.0.attn.proj", layer)
    with pytest.raises(ArtifactError, match="never filled"):
        save(broken, tmp_path / "artifact")
    assert not list(tmp_path.iterdir())


def test_a_float_network_is_not_an_artifact(net: VGGT, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no quantised layer"):
        save(net, tmp_path / "artifact")


def _truncate(folder: Path) -> None:
    file = folder / TENSORS
    file.write_bytes(file.read_bytes()[:-1])


def _flip_a_bit(folder: Path) -> None:
    content = bytearray((folder / TENSORS).read_bytes())
    content[-100] ^= 1
    (folder / TENSORS).write_bytes(content)


def _remove_tensors(folder: Path) -> None:
    (folder / TENSORS).unlink()


def _remove_manifest(folder: Path) -> None:
    (folder / MANIFEST).unlink()


def _half_a_manifest(folder: Path) -> None:
    text = (folder / MANIFEST).read_text()
    (folder / MANIFEST).write_text(text[: len(text) // 2])


def _edit(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        manifest = json.loads((folder / MANIFEST).read_text())
        change(manifest)
        (folder / MANIFEST).write_text(json.dumps(manifest))

    return damage


LAYER = "aggregator.frame_blocks.0.attn.qkv"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        pytest.param(_truncate, "bytes long; the manifest says", id="truncated"),
        pytest.param(_flip_a_bit, "does not match its checksum", id="one bit flipped"),
        pytest.param(_remove_tensors, "model.safetensors is missing", id="tensors missing"),
        pytest.param(_remove_manifest, "it has no manifest.json", id="manifest missing"),
        pytest.param(_half_a_manifest, "is damaged", id="half a manifest"),
        pytest.param(
            _edit(lambda m: m.update(version=VERSION + 1)),
            "upgrade this software",
            id="newer version",
        ),
        pytest.param(
            _edit(lambda m: m.update(version=0)),
            "quantise the checkpoint again",
            id="older version",
        ),
        pytest.param(
            _edit(lambda m: m.update(format="gguf")), "does not describe an artifact", id="foreign"
        ),
        pytest.param(
            _edit(lambda m: m.pop("recipe")), "missing or unknown keys: recipe", id="key missing"
        ),
        pytest.param(
            _edit(lambda m: m.update(extra=1)), "missing or unknown keys: extra", id="key unknown"
        ),
        pytest.param(_edit(lambda m: m.update(files={})), "must list exactly", id="no files"),
        pytest.param(
            _edit(lambda m: m["network"].update(embed_dim=48)), "is damaged", id="other width"
        ),
        pytest.param(
            _edit(lambda m: m["network"].update(colour=1)), "colour", id="unknown configuration"
        ),
        pytest.param(
            _edit(lambda m: m.update(family="da9")),
            "of family 'da9'; this software knows vggt",
            id="family",
        ),
        pytest.param(_edit(lambda m: m.update(domain="rooms")), "a domain is a text", id="domain"),
        pytest.param(
            _edit(lambda m: m["layers"][LAYER].update(scheme="w2a2")), "w2a2", id="unknown scheme"
        ),
        pytest.param(
            _edit(lambda m: m["layers"][LAYER].update(scheme="w8a8")),
            "weight is torch.uint8",
            id="bits",
        ),
        pytest.param(_edit(lambda m: m["layers"].pop(LAYER)), "qkv.weight", id="layer forgotten"),
        pytest.param(
            _edit(lambda m: m["layers"][LAYER]["tensors"].pop()),
            "unknown tensors",
            id="tensor forgotten",
        ),
        pytest.param(
            _edit(lambda m: m["layers"].update(ghost=m["layers"][LAYER])),
            "ghost",
            id="layer unknown",
        ),
    ],
)
def test_a_damaged_artifact_gets_one_clear_error(
    artifact: Path, damage: Callable[[Path], None], message: str
) -> None:
    damage(artifact)
    with pytest.raises(ArtifactError, match=message):
        load(artifact)


def test_an_artifact_that_names_no_family_is_a_vggt(artifact: Path) -> None:
    _edit(lambda m: m.pop("family"))(artifact)
    assert read_manifest(artifact)["family"] == "vggt"
    assert isinstance(load(artifact), VGGT)


def test_what_the_network_was_trained_on_is_kept_and_may_be_unknown(
    quantized: VGGT, artifact: Path, tmp_path: Path
) -> None:
    domain = Domain("drawn rooms", photographs=False)
    save(quantized, tmp_path / "rooms", domain=domain)
    assert read_manifest(tmp_path / "rooms")["domain"] == domain.to_dict()
    assert read_manifest(artifact)["domain"] is None
    _edit(lambda m: m.pop("domain"))(artifact)
    assert read_manifest(artifact)["domain"] is None, "artifacts of before do not say"


def test_a_path_without_an_artifact_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="not a folder"):
        load(tmp_path / "nothing")


def test_saving_what_was_loaded_gives_the_same_tensors(artifact: Path, tmp_path: Path) -> None:
    save(load(artifact), tmp_path / "again")
    assert (tmp_path / "again" / TENSORS).read_bytes() == (artifact / TENSORS).read_bytes()


def test_weights_that_stay_float_take_one_byte_in_memory(artifact: Path) -> None:
    loaded = load(artifact)
    layer = loaded.aggregator.patch_embed.patch_embed.proj
    assert layer.parametrizations.weight.original0.dtype == torch.int8
    assert layer.weight.dtype == torch.float32


def test_the_kernels_of_a_gpu_are_built_and_tried_while_an_artifact_is_loaded(
    artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first pass may be captured in a graph, which neither building nor the trial survives."""

    def kernel_path(device: str) -> None:
        raise InterruptedError(device)

    monkeypatch.setattr("model.files.artifact.kernel_path", kernel_path)
    with pytest.raises(InterruptedError, match="cuda:0"):
        load(artifact, device="cuda:0")
