"""The whole run: stage by stage, finished stages kept, a quantised network and the report's facts
at the end."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from kernels import QuantizedLinear
from model.network.config import NetworkConfig
from model.network.network import Network, Stage
from quantization.calibration.block import quantize_stage
from quantization.calibration.stages import Read, Stream, Walk
from quantization.calibration.store import StageStore
from quantization.recipe import Recipe


@dataclass(frozen=True)
class Calibrated:
    """The quantised network, and one record a quantised layer (`calibration.block.LayerRecord` as
    plain data)."""

    net: Network
    layers: tuple[Mapping[str, Any], ...]


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
    records: list[Mapping[str, Any]] = []
    stages = [stage for stage in walk.stages if walk.schemes(stage, recipe)]
    last = walk.stages.index(stages[-1])
    for stage in _progress(walk.stages[: last + 1]):
        meant.enter(stage)
        if seen is not None:
            seen.enter(stage)
        finished = None if store is None else store.get(stage.name)
        if finished is None:
            made = [dataclasses.asdict(r) for r in quantize_stage(walk, stage, meant, seen, recipe)]
            module = walk.net.get_submodule(stage.name)
            if store is not None:
                store.put(stage.name, module.state_dict(), made)
        else:
            tensors, made = finished
            _restore(walk, stage, tensors, made, meant, seen, recipe)
        records += made
    for name, parameter in list(walk.net.named_parameters()):
        if parameter.is_meta:
            walk.fill([name])
    return Calibrated(walk.net.eval(), tuple(records))


def _restore(
    walk: Walk,
    stage: Stage,
    tensors: dict[str, Tensor],
    records: Sequence[Mapping[str, Any]],
    meant: Stream,
    seen: Stream | None,
    recipe: Recipe,
) -> None:
    """Puts a finished stage into the network and takes the streams through it."""
    module = walk.fill_stage(stage)
    meant.advance(stage, module)
    schemes = {
        record["name"].removeprefix(f"{stage.name}."): record["scheme"] for record in records
    }
    for name in schemes:
        scheme = recipe.scheme(walk.family, f"{stage.name}.{name}")
        assert scheme is not None
        parts = {
            key.removeprefix(f"{name}."): tensors.pop(key)
            for key in list(tensors)
            if key.startswith(f"{name}.")
        }
        module.set_submodule(name, QuantizedLinear(scheme, **parts).to(walk.device))
    for name, tensor in tensors.items():
        owner, _, leaf = name.rpartition(".")
        parameter = nn.Parameter(tensor.to(walk.device), requires_grad=False)
        module.get_submodule(owner).register_parameter(leaf, parameter)
    if seen is not None:
        seen.advance(stage, module)


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
