"""Gradients of one part of a batch, each part on a core of its own.

Small layers keep Python busier than the arithmetic, so threads would wait for each other: parts are
processes. They share one flat buffer of weights, which only the main process changes, and one flat
buffer of gradients each.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from model import VGGT, VGGTConfig
from scenes.scene import SceneBatch
from scenes.synthetic.generator import render
from training.batches import BatchConfig, TrainingBatches
from training.drawing import DrawingProcesses
from training.memory import keep_freed_memory
from training.objective import LossWeights, Objective
from training.parent import end_with_parent


@dataclass(frozen=True)
class PartConfig:
    """What a process needs to know to compute its part of any step."""

    network: VGGTConfig
    losses: LossWeights
    batches: BatchConfig
    seed: int
    steps: int
    parts: int


class StepPlan(NamedTuple):
    """What differs between steps: share of frames with dense supervision, factors of the teaching
    losses' weights."""

    dense_share: float
    attention: float
    matching: float = 1.0
    teach_auxiliary_only: bool = False


@dataclass(frozen=True)
class PartResult:
    """Scenes and frames of a part and its loss terms; its gradients lie in the part's flat
    buffer."""

    scenes: int
    frames: int
    terms: dict[str, float]


def trainable(objective: Objective) -> list[nn.Parameter]:
    """The parameters that are trained, in the order of the flat buffers."""
    return [parameter for parameter in objective.parameters() if parameter.requires_grad]


def flatten_weights(parameters: Sequence[nn.Parameter]) -> Tensor:
    """Moves all parameters into one flat buffer, of which they become views."""
    flat = torch.cat([parameter.detach().flatten() for parameter in parameters])
    attach(parameters, flat)
    return flat


def attach(parameters: Sequence[nn.Parameter], flat: Tensor) -> None:
    """Makes the parameters views of `flat`."""
    for parameter, view in zip(parameters, views(parameters, flat), strict=True):
        parameter.data = view


def views(parameters: Sequence[nn.Parameter], flat: Tensor) -> list[Tensor]:
    """`flat` cut into tensors of the parameters' shapes."""
    pieces = flat.split([parameter.numel() for parameter in parameters])
    return [piece.view_as(parameter) for piece, parameter in zip(pieces, parameters, strict=True)]


class Part:
    """One part of every batch: its share of the rendering, and its gradients into `gradients`."""

    def __init__(
        self,
        config: PartConfig,
        part: int,
        objective: Objective,
        gradients: Tensor,
        drawing: DrawingProcesses | None = None,
    ) -> None:
        self.config, self.part, self.objective, self.gradients = config, part, objective, gradients
        self.drawing = drawing
        self.parameters = trainable(objective)
        self.batches = TrainingBatches(config.batches, config.seed, config.steps, gradients.device)

    def render(self, step: int) -> SceneBatch | None:
        """This part's share of the pool that `step` needs; None if there are more parts than
        scenes.

        Drawing processes make the whole of it, and begin with the next one.
        """
        if self.drawing is not None:
            drawn = self.drawing.take(self.batches.request(step))
            self.drawing.ask(self.batches.request(step + self.config.batches.reuse))
            return render(drawn, self.batches.device)
        return self.batches.render(step, self.part, self.config.parts)

    def compute(self, step: int, pool: SceneBatch | None, plan: StepPlan) -> PartResult:
        """Gradients of this part of `step`; a new `pool` replaces the one from before."""
        if pool is not None:
            self.batches.hold(step, pool)
        batch = self.batches.part(step, self.part, self.config.parts)
        scenes, frames = batch.images.shape[:2]
        if scenes == 0:
            return PartResult(0, 0, {})
        device = self.gradients.device
        dense = self.batches.dense_frames(step, self.part, scenes * frames, plan.dense_share)
        terms = self.objective(
            batch.to(device),
            dense.to(device),
            plan.attention,
            plan.matching,
            plan.teach_auxiliary_only,
        )
        gradients = torch.autograd.grad(terms["total"], self.parameters)
        torch.cat([gradient.flatten() for gradient in gradients], out=self.gradients)
        return PartResult(
            scenes, scenes * frames, {name: value.item() for name, value in terms.items()}
        )


class PartProcess:
    """A part in a process of its own, on shared weights."""

    def __init__(self, config: PartConfig, part: int, weights: Tensor) -> None:
        self.gradients = torch.zeros_like(weights).share_memory_()
        self._executor = ProcessPoolExecutor(
            1, multiprocessing.get_context("spawn"), _start, (config, part, weights, self.gradients)
        )

    def render(self, step: int) -> Future[SceneBatch | None]:
        return self._executor.submit(_render, step)

    def compute(self, step: int, pool: SceneBatch | None, plan: StepPlan) -> Future[PartResult]:
        return self._executor.submit(_compute, step, pool, plan)

    def close(self) -> None:
        self._executor.shutdown()


_mine: Part  # the part that this process computes, once it is one of many


def _start(config: PartConfig, part: int, weights: Tensor, gradients: Tensor) -> None:
    global _mine
    end_with_parent()
    keep_freed_memory()
    torch.set_num_threads(1)
    objective = Objective(VGGT(config.network), config.losses)
    attach(trainable(objective), weights)
    _mine = Part(config, part, objective, gradients)


def _render(step: int) -> SceneBatch | None:
    return _mine.render(step)


def _compute(step: int, pool: SceneBatch | None, plan: StepPlan) -> PartResult:
    return _mine.compute(step, pool, plan)
