"""The quantised model on disk: a folder with `manifest.json` and `model.safetensors`. Reader and
writer in one place.

The manifest is the only truth: family and shape of the network, what it was trained on, arithmetic
of attention and dense heads, scheme of every quantised layer, packing, recipe, calibration,
provenance, size and SHA-256 of the tensor file. Weights of 4 bits are stored two to a byte, low
nibble = even k; the weights of layers that stay float lie in 8 bits with one scale an output
channel, everything else in float16. Nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils import parametrize

from kernels import (
    FORMATS,
    NumberFormat,
    QuantizedLinear,
    kernel_path,
    with_wide_activations,
)
from kernels.widths import LayerShape
from model import families
from model.errors import ArtifactError
from model.files.checkpoint import assign, build_empty
from model.files.domain import Domain
from model.files.manifest import FORMAT, MANIFEST, TENSORS, VERSION, read
from model.files.storage import encode, keep_in_8_bits, kept_codes
from model.network.config import NetworkConfig
from model.network.network import Network

_PACKING = (
    "int4: two codes a byte, low nibble even k; int8: one code a byte; "
    ".scale: float32 a row of an int8 tensor"
)
WIDE = "wide"  # what a layer has for 8-bit activations, in the manifest and in tensors' names
_OPTIONAL = ("bias", "signs", "smoothing", "activation_clip")
_LARGEST_FLOAT16 = torch.finfo(torch.float16).max
_SMALLEST_IN_8_BITS = 2**14  # elements; below it there is nothing to save


def save(
    net: Network,
    path: str | Path,
    *,
    wide: Mapping[str, QuantizedLinear] | None = None,
    recipe: Mapping[str, Any] | None = None,
    calibration: Mapping[str, Any] | None = None,
    provenance: Mapping[str, Any] | None = None,
    domain: Domain | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Writes a network with quantised layers to the folder `path` and returns the manifest.

    `wide`: quantised layers for 8-bit activations, by name, with the same codes as those of `net`.
    Weights of linear and convolution layers that stay float are stored in 8 bits, other float
    tensors as float16 (as float32 where a value would overflow). The folder appears whole or not at
    all. Raises ArtifactError if the network has no quantised layer, the folder exists and
    `overwrite` is False, or it cannot be written.
    """
    target = Path(path)
    layers = {
        name: module for name, module in net.named_modules() if isinstance(module, QuantizedLinear)
    }
    if not layers:
        raise ArtifactError(
            "the network has no quantised layer; quantise it before saving an artifact"
        )
    check_target(target, overwrite)
    wide = wide or {}
    tensors = _stored(net, layers) | {
        f"{name}.{WIDE}.{part}": tensor.detach().to("cpu", copy=True).contiguous()
        for name, layer in wide.items()
        for part, tensor in layer.activation_tensors().items()
    }
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        save_file(tensors, staging / TENSORS)
        manifest = {
            "format": FORMAT,
            "version": VERSION,
            "packing": _PACKING,
            "family": net.config.family,
            "network": net.config.to_dict(),
            "domain": None if domain is None else domain.to_dict(),
            "execution": {"attention": net.attention, "dense_heads": net.dense_heads},
            "layers": {name: _describe(layer, wide.get(name)) for name, layer in layers.items()},
            "recipe": dict(recipe or {}),
            "calibration": None if calibration is None else dict(calibration),
            "provenance": dict(provenance or {}),
            "files": {
                TENSORS: {
                    "bytes": (staging / TENSORS).stat().st_size,
                    "sha256": sha256(staging / TENSORS),
                }
            },
        }
        (staging / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
        # a temporary folder is private; whoever serves an artifact need not be who wrote it
        staging.chmod(0o755)
        for file in staging.iterdir():
            file.chmod(0o644)
        if target.exists():
            shutil.rmtree(target)
        os.replace(staging, target)
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"the artifact cannot be written to {target}: {error}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return manifest


def check_target(target: Path, overwrite: bool) -> None:
    """Raises ArtifactError unless an artifact may be written to the folder `target`."""
    if target.exists() and not overwrite:
        raise ArtifactError(f"{target} exists; choose another folder or pass --overwrite")
    if target.exists() and not (target / MANIFEST).is_file() and any(target.iterdir()):
        raise ArtifactError(
            f"{target} is not an artifact, so it is not overwritten; choose another folder"
        )


def read_manifest(path: str | Path) -> dict[str, Any]:
    """The manifest of the artifact at `path`, checked to describe a network that can be built.
    Raises ArtifactError."""
    manifest = read(path)
    manifest.setdefault("family", families.FIRST)
    manifest.setdefault("domain", None)
    file = Path(path) / MANIFEST
    if manifest["family"] not in families.FAMILIES:
        raise ArtifactError(
            f"{path} holds a network of family {manifest['family']!r}; this software knows "
            f"{', '.join(families.FAMILIES)}: upgrade it, or quantise another checkpoint"
        )
    try:
        configuration(manifest)
        if manifest["domain"] is not None:
            Domain.from_dict(manifest["domain"])
    except (ValueError, TypeError, AttributeError) as error:
        raise ArtifactError(f"{file} is damaged: {error}") from error
    return manifest


def configuration(manifest: Mapping[str, Any]) -> NetworkConfig:
    """The network that a manifest describes, one of `save` or `read_manifest`."""
    return families.named(manifest["family"]).config.from_dict(manifest["network"])


def load(
    path: str | Path,
    device: str | torch.device = "cpu",
    without: Collection[str] = (),
    wide_activations: bool = False,
) -> Network:
    """The network of the artifact at `path`, quantised layers and all, on `device` in evaluation
    mode.

    With `wide_activations` layers of 4-bit activations get 8-bit ones: with the scales and biases
    that calibration made for these, or in older artifacts with those for 4 bits, unclipped.

    Heads `without` are left out, where the artifact has them: nothing reads or computes them.
    Raises ArtifactError if anything is missing, damaged, unknown, or of another version.
    """
    folder = Path(path)
    manifest = read_manifest(folder)
    if torch.device(device).type == "cuda":
        # builds and tries the kernels: the first pass may be captured in a graph, which could not
        kernel_path(device)
    _verify_files(folder, manifest)
    try:
        config = configuration(manifest)
        wanted = config.with_heads([head for head in config.heads if head not in without])
        net = build_empty(wanted)
        ignored = families.of(config).ignored
        unread = tuple(set(ignored(wanted)) - set(ignored(config)))
        with safe_open(folder / TENSORS, framework="pt") as source:
            _fill(net, manifest["layers"], source, device, unread, wide_activations)
        net.attention, net.dense_heads = (
            manifest["execution"][key] for key in ("attention", "dense_heads")
        )
    except ArtifactError:
        raise
    except (SafetensorError, OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ArtifactError(f"the artifact at {folder} is damaged: {error}") from error
    return net.to(device).eval()


def layer_shapes(path: str | Path) -> Counter[LayerShape]:
    """How many quantised layers of each shape the artifact at `path` has; reads no weight. Raises
    ArtifactError."""
    folder = Path(path)
    shapes: Counter[LayerShape] = Counter()
    try:
        with safe_open(folder / TENSORS, framework="pt") as source:
            for name, layer in read_manifest(folder)["layers"].items():
                known = _format(name, layer["scheme"])
                n, stored = source.get_slice(f"{name}.weight").get_shape()
                parts = layer["tensors"]
                shapes[
                    LayerShape(
                        known,
                        stored * known.codes_to_a_byte,
                        n,
                        "signs" in parts,
                        "smoothing" in parts,
                    )
                ] += 1
    except (SafetensorError, OSError, ValueError, TypeError, KeyError) as error:
        raise ArtifactError(f"the artifact at {folder} is damaged: {error}") from error
    return shapes


def replace_linear(net: nn.Module, name: str, layer: QuantizedLinear) -> None:
    """Puts a quantised layer where the float linear layer `name` was. Raises ValueError if the
    shapes differ."""
    old = net.get_submodule(name)
    if not isinstance(old, nn.Linear):
        raise ValueError(
            f"{name} is {type(old).__name__}; only a linear layer can be replaced by a quantised "
            "one"
        )
    if (old.out_features, old.in_features) != (layer.out_features, layer.in_features):
        raise ValueError(
            f"{name} is {old.in_features} -> {old.out_features}; "
            f"the quantised layer is {layer.in_features} -> {layer.out_features}"
        )
    net.set_submodule(name, layer)


def _stored(net: Network, layers: Mapping[str, QuantizedLinear]) -> dict[str, Tensor]:
    """All tensors as they are written: quantised layers as they are, float weights in 8 bits, the
    rest in float16."""
    tensors: dict[str, Tensor] = {}
    left: dict[str, Tensor] = {}
    for name, module in net.named_modules():
        if name in layers:
            tensors |= {f"{name}.{leaf}": buffer for leaf, buffer in module.state_dict().items()}
        elif isinstance(module, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
            kept = kept_codes(module)
            if kept is None and _in_8_bits(module.weight):
                kept = encode(module.weight)
            if kept is None:
                left[f"{name}.weight"] = module.weight
            else:
                tensors[f"{name}.weight"], tensors[f"{name}.weight.scale"] = kept
            if module.bias is not None:
                left[f"{name}.bias"] = module.bias
        elif not isinstance(module, parametrize.ParametrizationList):
            left |= {
                f"{name}.{leaf}".removeprefix("."): parameter  # the network's own have no owner
                for leaf, parameter in module.named_parameters(recurse=False)
            }
    for name, value in left.items():
        if value.is_meta:
            raise ArtifactError(
                f"{name} has no values; the network was built empty and never filled"
            )
        fits = value.abs().amax() <= _LARGEST_FLOAT16  # False for NaN as well
        tensors[name] = value.to(torch.float16 if fits else torch.float32)
    return {name: value.detach().to("cpu").contiguous() for name, value in tensors.items()}


def _in_8_bits(weight: Tensor) -> bool:
    large_enough = not weight.is_meta and weight.numel() >= _SMALLEST_IN_8_BITS
    return large_enough and bool(weight.abs().amax() <= _LARGEST_FLOAT16)


def _describe(layer: QuantizedLinear, wide: QuantizedLinear | None) -> dict[str, Any]:
    described: dict[str, Any] = {
        "scheme": layer.format.name,
        "tensors": [name for name in _OPTIONAL if getattr(layer, name) is not None],
    }
    if wide is not None:
        described[WIDE] = {"scheme": wide.format.name, "tensors": [*wide.activation_tensors()]}
    return described


def _verify_files(folder: Path, manifest: Mapping[str, Any]) -> None:
    files = manifest["files"]
    if not isinstance(files, dict) or set(files) != {TENSORS}:
        raise ArtifactError(f"{folder / MANIFEST} is damaged: it must list exactly {TENSORS}")
    for name, expected in files.items():
        file = folder / name
        if not file.is_file():
            raise ArtifactError(f"the artifact at {folder} is incomplete: {name} is missing")
        size = file.stat().st_size
        if size != expected.get("bytes"):
            raise ArtifactError(
                f"{file} is {size} bytes long; the manifest says {expected.get('bytes')}: copy it "
                "again"
            )
        if sha256(file) != expected.get("sha256"):
            raise ArtifactError(
                f"{file} does not match its checksum: it is corrupted; copy it again"
            )


def _fill(
    net: Network,
    layers: Mapping[str, Any],
    source: Any,
    device: str | torch.device,
    unread: tuple[str, ...],
    wide_activations: bool,
) -> None:
    names = {name for name in set(source.keys()) if not name.startswith(unread)}
    for name, description in layers.items():
        if name.startswith(unread):
            continue
        parts = ["weight", "weight_scale", *description["tensors"]]
        tensors = {part: source.get_tensor(f"{name}.{part}") for part in parts}
        layer = QuantizedLinear(_format(name, description["scheme"]), **tensors)
        wide = description.get(WIDE)
        if wide is not None:
            parts += [f"{WIDE}.{part}" for part in wide["tensors"]]
        if wide_activations:
            layer = _widened(layer, name, wide, source)
        replace_linear(net, name, layer)
        names -= {f"{name}.{part}" for part in parts}
    for name, parameter in list(net.named_parameters()):
        if name not in names:
            raise ArtifactError(f"tensor {name} is missing")
        value, scale = source.get_tensor(name), None
        if value.dtype == torch.int8 and f"{name}.scale" in names:
            scale = source.get_tensor(f"{name}.scale")
            names.remove(f"{name}.scale")
        if value.shape != parameter.shape or not (value.is_floating_point() or scale is not None):
            raise ArtifactError(
                f"tensor {name} is {value.dtype} {tuple(value.shape)}; expected "
                f"{tuple(parameter.shape)}"
            )
        if scale is None:
            assign(net, name, value, device)
        else:
            keep_in_8_bits(net.get_submodule(name.rpartition(".")[0]), value, scale)
        names.remove(name)
    if names:
        raise ArtifactError(f"{len(names)} unknown tensors (first: {min(names)})")


def _format(layer: str, scheme: str) -> NumberFormat:
    if scheme not in FORMATS:
        raise ArtifactError(
            f"layer {layer} has scheme {scheme!r}; this software knows {', '.join(FORMATS)}"
        )
    return FORMATS[scheme]


def _widened(
    layer: QuantizedLinear, name: str, wide: Mapping[str, Any] | None, source: Any
) -> QuantizedLinear:
    """`layer` for 8-bit activations, if it has 4-bit ones."""
    if wide is not None:
        tensors = {part: source.get_tensor(f"{name}.{WIDE}.{part}") for part in wide["tensors"]}
        return layer.with_activations(_format(name, wide["scheme"]), **tensors)
    known = with_wide_activations(layer.format)
    return layer if known is None else layer.with_activations(known, layer.weight_scale, layer.bias)


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
