"""The whole run: stage by stage, finished stages kept, a quantised network and the report's facts
at the end."""

from __future__ import annotations

import copy
import dataclasses
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from kernels import QuantizedLinear, with_wide_activations
from model.files.artifact import WIDE
from model.network.config import NetworkConfig
from model.network.network import Network, Stage
from quantization.calibration.block import quantize_stage
from quantization.calibration.stages import Read, Stream, Walk
from quantization.calibration.store import StageStore
from quantization.recipe import Recipe


@dataclass(frozen=True)
class Calibrated:
    """The quantised network, one record a quantised layer (`calibration.block.LayerRecord` as plain
    data), and by name the layers for 8-bit activations."""

    net: Network
    layers: tuple[Mapping[str, Any], ...]
    wide: Mapping[str, QuantizedLinear]


def calibrate(
    config: NetworkConfig,
    read: Read,
    images: Sequence[Tensor],
    recipe: Recipe,
    *,
    store: StageStore | None = None,
    device: str | torch.device = "cpu",
) -> Calibrated:
    """Quantises a network on calibration samples `images`, one `[S, 3, H, W]` in [0, 1] each.

    `read` gives the float checkpoint's tensors by name. With a `store`, finished stages are kept
    there and not computed again; a run that was killed and goes on gives the same bits. Raises
    CalibrationError, ValueError.
    """
    if not images:
        raise ValueError("this recipe looks at activations; give it calibration samples")
    walk = Walk(config, read, images, device)
    meant = Stream(walk)
    seen = Stream(walk, recipe.attention) if recipe.propagate == "quantised" else None
    wide_seen = None
    if seen is not None and recipe.wide:
        wide_seen = Stream(walk, recipe.attention)
    records: list[Mapping[str, Any]] = []
    wide: dict[str, QuantizedLinear] = {}
    stages = [stage for stage in walk.stages if walk.schemes(stage, recipe)]
    last = walk.stages.index(stages[-1])
    for stage in _progress(walk.stages[: last + 1]):
        meant.enter(stage)
        for stream in (seen, wide_seen):
            if stream is not None:
                stream.enter(stage)
        finished = None if store is None else store.get(stage.name)
        if finished is None:
            quantised = quantize_stage(walk, stage, meant, seen, recipe, wide_seen)
            made = [dataclasses.asdict(record) for record in quantised.records]
            found = quantised.wide
            if store is not None:
                module = walk.net.get_submodule(stage.name)
                store.put(stage.name, {**module.state_dict(), **_wide_tensors(found)}, made)
        else:
            tensors, made = finished
            found = _restore(walk, stage, tensors, made, meant, seen, recipe, wide_seen)
        records += made
        wide |= {f"{stage.name}.{name}": layer for name, layer in found.items()}
    for name, parameter in list(walk.net.named_parameters()):
        if parameter.is_meta:
            walk.fill([name])
    return Calibrated(walk.net.eval(), tuple(records), wide)


def _restore(
    walk: Walk,
    stage: Stage,
    tensors: dict[str, Tensor],
    records: Sequence[Mapping[str, Any]],
    meant: Stream,
    seen: Stream | None,
    recipe: Recipe,
    wide_seen: Stream | None,
) -> dict[str, QuantizedLinear]:
    """Puts a finished stage into the network and takes the streams through it; the layers for 8-bit
    activations."""
    module = walk.fill_stage(stage)
    meant.advance(stage, module)
    schemes = {
        record["name"].removeprefix(f"{stage.name}."): record["scheme"] for record in records
    }
    wide: dict[str, QuantizedLinear] = {}
    for name in schemes:
        scheme = recipe.scheme(walk.family, f"{stage.name}.{name}")
        assert scheme is not None
        widened = _taken(tensors, f"{name}.{WIDE}.")
        layer = QuantizedLinear(scheme, **_taken(tensors, f"{name}.")).to(walk.device)
        wide_format = with_wide_activations(scheme)
        if widened and wide_format is not None:
            wide[name] = layer.with_activations(wide_format, **widened).to(walk.device)
        module.set_submodule(name, layer)
    for name, tensor in tensors.items():
        owner, _, leaf = name.rpartition(".")
        parameter = nn.Parameter(tensor.to(walk.device), requires_grad=False)
        module.get_submodule(owner).register_parameter(leaf, parameter)
    if seen is not None:
        seen.advance(stage, module)
    if wide_seen is not None:
        wide_module = copy.deepcopy(module)
        for name, layer in wide.items():
            wide_module.set_submodule(name, layer)
        wide_seen.advance(stage, wide_module)
    return wide


def _wide_tensors(wide: Mapping[str, QuantizedLinear]) -> dict[str, Tensor]:
    """What layers for 8-bit activations have of their own, as a finished stage keeps it."""
    return {
        f"{name}.{WIDE}.{part}": tensor
        for name, layer in wide.items()
        for part, tensor in layer.activation_tensors().items()
    }


def _taken(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Takes those under `prefix` out of `tensors`, without it."""
    return {
        key.removeprefix(prefix): tensors.pop(key)
        for key in list(tensors)
        if key.startswith(prefix)
    }


def _progress(stages: Sequence[Stage]) -> Any:
    """Stages with a bar on a terminal, elsewhere with a line each that tells the time left."""
    if sys.stderr.isatty():
        return tqdm(stages, desc="quantising", unit="block", file=sys.stderr, leave=False)
    return _lines(stages)


def _lines(stages: Sequence[Stage]) -> Any:
    started = time.monotonic()
    for done, stage in enumerate(stages):
        yield stage
        spent = time.monotonic() - started
        left = spent / (done + 1) * (len(stages) - done - 1)
        print(
            f"quantised {done + 1}/{len(stages)}: {stage.name}, {left:.0f} s left",
            file=sys.stderr,
            flush=True,
        )
