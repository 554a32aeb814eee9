"""One stage of the network: its layers quantised one after the other, each on the inputs that it
will really see."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kernels import NumberFormat, QuantizedLinear, with_wide_activations
from model.network.network import Stage
from model.network.parts import at_once
from model.network.transformer import Block
from quantization.calibration.outliers import Outliers, outliers
from quantization.calibration.stages import Stream, Walk
from quantization.folding import centred, fold_layer_scales, fold_means, fold_norms
from quantization.layer import (
    LayerErrors,
    Observed,
    Transform,
    first_smoothing,
    layer_errors,
    prepare,
    rotation_signs,
    round_layer,
)
from quantization.learning import learn_block
from quantization.recipe import Recipe


@dataclass(frozen=True)
class LayerRecord:
    """What the report says about one layer; `inputs` is None in a head, which has no patch
    tokens."""

    name: str
    scheme: str
    errors: LayerErrors
    inputs: Outliers | None


@dataclass(frozen=True)
class QuantizedStage:
    """A record for each quantised layer, and by name in the stage the layers for 8-bit
    activations."""

    records: list[LayerRecord]
    wide: dict[str, QuantizedLinear]


@torch.no_grad()
def quantize_stage(
    walk: Walk,
    stage: Stage,
    meant: Stream,
    seen: Stream | None,
    recipe: Recipe,
    wide_seen: Stream | None = None,
) -> QuantizedStage:
    """Replaces the layers of a stage by quantised ones, in place, and takes the streams through it.

    `meant` is the float network's; `seen` passes the quantised stages, `wide_seen` those with 8-bit
    activations. Without one of the two its layers are made for the float network's inputs.
    """
    module = walk.fill_stage(stage)
    original = copy.deepcopy(module)
    chosen = walk.schemes(stage, recipe)
    if recipe.fold and isinstance(module, Block):
        _fold(walk, stage, module, meant)
    true = copy.deepcopy(module)
    signs = {name: _signs(walk, stage, name, recipe) for name in chosen}
    learned: Mapping[str, Transform] = {}
    if recipe.learning_epochs > 0 and chosen:
        learned = _learn(walk, stage, true, chosen, signs, meant, seen or meant, recipe)
    records = []
    wide_module = None if wide_seen is None else copy.deepcopy(module)
    wide: dict[str, QuantizedLinear] = {}
    given = observe(walk, stage, true, list(chosen), meant)
    for name, scheme in chosen.items():
        wanted = given.pop(name)
        observed = Observed(
            wanted, wanted if seen is None else observe(walk, stage, module, [name], seen)[name]
        )
        layer = _linear(module, name)
        prepared = prepare(layer.weight, scheme, recipe, signs[name], observed, learned.get(name))
        rows = observed.rows()
        special = None if stage.kind == "head" else _special(walk, observed)
        del observed  # or its inputs would be held beside the ones that come now
        wide_inputs = None
        if recipe.wide and with_wide_activations(scheme) is not None:
            met = wanted
            if wide_seen is not None and wide_module is not None:
                met = observe(walk, stage, wide_module, [name], wide_seen)[name]
            wide_inputs = prepared.wide_inputs(Observed(wanted, met), recipe)
            del met
        quantised, widened = round_layer(prepared, layer.bias, recipe, wide_inputs)
        if widened is not None:
            wide[name] = widened
        records.append(
            LayerRecord(
                f"{stage.name}.{name}",
                scheme.name,
                layer_errors(quantised, layer.weight, layer.bias, scheme, rows),
                None if special is None else outliers(rows[1], special, quantised),
            )
        )
        if wide_module is not None:
            wide_module.set_submodule(name, wide.get(name, quantised))
        module.set_submodule(name, quantised)
    meant.advance(stage, original)  # to the bit what a resumed run does
    if seen is not None:
        seen.advance(stage, module)
    if wide_seen is not None and wide_module is not None:
        wide_seen.advance(stage, wide_module)
    return QuantizedStage(records, wide)


def observe(
    walk: Walk, stage: Stage, module: nn.Module, names: Sequence[str], stream: Stream
) -> dict[str, list[Tensor]]:
    """Inputs of the float layers `names` of `module` on every sample of `stream`, `[batch, tokens,
    K]` each."""
    found: dict[str, list[Tensor]] = {name: [] for name in names}
    for i, tokens in enumerate(stream.tokens):
        with _recording(module, names) as calls, at_once():
            walk.run(stage, module, tokens, i, stream.attention)
        for name in names:
            # a layer may be called several times a run: chunks of tokens, iterations of a head
            rows = torch.cat([call.flatten(0, -2) for call in calls[name]])
            found[name].append(rows.view(tokens.shape[0], -1, rows.shape[-1]))
    return found


@contextmanager
def _recording(module: nn.Module, names: Sequence[str]) -> Iterator[dict[str, list[Tensor]]]:
    calls: dict[str, list[Tensor]] = {name: [] for name in names}
    hooks = []
    for name in names:
        layer = _linear(module, name)
        hooks.append(
            layer.register_forward_pre_hook(lambda _, inputs, to=calls[name]: to.append(inputs[0]))
        )
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()


def _fold(walk: Walk, stage: Stage, block: Block, stream: Stream) -> None:
    fold_norms(block)
    means = {}
    for name, samples in observe(walk, stage, block, centred(block), stream).items():
        rows = torch.cat([sample.flatten(0, -2) for sample in samples])
        means[name] = rows.mean(dim=0, dtype=torch.float64)
    fold_means(block, means)
    fold_layer_scales(block)


def _learn(
    walk: Walk,
    stage: Stage,
    true: nn.Module,
    chosen: Mapping[str, NumberFormat],
    signs: Mapping[str, Tensor | None],
    meant: Stream,
    source: Stream,
    recipe: Recipe,
) -> dict[str, Transform]:
    inputs = observe(walk, stage, true, list(chosen), meant)
    layers = {
        name: (
            scheme,
            signs[name],
            first_smoothing(_linear(true, name).weight, inputs[name], signs[name], recipe),
        )
        for name, scheme in chosen.items()
    }
    targets = [walk.run(stage, true, tokens, i) for i, tokens in enumerate(meant.tokens)]
    return learn_block(
        true,
        layers,
        targets,
        lambda module, sample: walk.run(stage, module, source.tokens[sample], sample),
        recipe.learning_epochs,
    )


def _signs(walk: Walk, stage: Stage, name: str, recipe: Recipe) -> Tensor | None:
    if not recipe.rotate:
        return None
    width = _linear(walk.net.get_submodule(stage.name), name).in_features
    return rotation_signs(width, f"{stage.name}.{name}", recipe.seed).to(walk.device)


def _special(walk: Walk, observed: Observed) -> Tensor:
    """Which of `observed.rows()` belong to special tokens."""
    start = walk.family.special_tokens(walk.net.config)
    marks = []
    for sample, images in zip(observed.seen, walk.images, strict=True):
        per_frame = sample.shape[0] * sample.shape[1] // len(images)
        marks.append(
            (torch.arange(per_frame, device=walk.device) < start).repeat(len(images))[:, None]
        )
    return observed.spread(marks)[:, 0]


def _linear(module: nn.Module, name: str) -> nn.Linear:
    layer = module.get_submodule(name)
    assert isinstance(layer, nn.Linear)
    assert not isinstance(layer, QuantizedLinear)
    return layer
