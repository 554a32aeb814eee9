"""The training run: gradients in parts, Muon and AdamW, averaged weights, a state to resume from, a
log."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm

from model import VGGT
from model.families.vggt.presets import PRESETS
from model.files.checkpoint import load_checkpoint, resolve_checkpoint
from model.files.domain import DOMAIN, Domain
from model.files.provenance import commit, digest
from scenes.scene import SceneBatch
from scenes.synthetic.distribution import TEST_SETS
from training.batches import BatchConfig, concatenate
from training.curve import LOG, read_log
from training.drawing import DrawingProcesses
from training.initialisation import initialise
from training.memory import keep_freed_memory
from training.muon import Muon
from training.objective import LossWeights, Objective
from training.parallel import (
    Part,
    PartConfig,
    PartProcess,
    PartResult,
    StepPlan,
    flatten_weights,
    trainable,
    views,
)
from training.schedule import averaging_decay, early_boost, late_fade, learning_rate_factor
from training.state import load_state, save_state, write_json
from training.validation import validate, validation_scenes

LOG_EVERY, PRINT_EVERY, VALIDATE_EVERY = 25, 100, 500
SAVE_SECONDS = 60.0
BEST = "best"
_TRAINED_ON = {  # by recipe
    "rooms": "drawn rooms with textured boxes and spheres",
    "free": "drawn rooms, objects and house fronts",
    "free-gpu": "drawn rooms, objects and house fronts",
}
_MAX_BAD_STEPS = 20
# a resumed run may be shorter or use other cores
_MAY_CHANGE = ("steps", "processes", "compiler", "drawing_processes")
_FIT_SECONDS = 30.0


class TrainingError(RuntimeError):
    """The run cannot go on: it diverged, or its state belongs to another configuration."""


@dataclass(frozen=True)
class TrainingConfig:
    """One run. `processes` parts of a batch are computed at once, one core each: other rounding,
    the same data."""

    recipe: str = "rooms"  # its name in `RECIPES`, for the record
    preset: str = "demo"
    steps: int = 4500
    seed: int = 0
    start: str | None = None  # checkpoint whose weights the run starts from instead of random ones
    processes: int = 2
    batches: BatchConfig = field(default_factory=BatchConfig)
    losses: LossWeights = field(default_factory=LossWeights)
    learning_rate: float = 1.3e-3  # AdamW
    muon_learning_rate: float = 0.01
    weight_decay: float = 0.02
    clip_norm: float = 1.0
    # share of frames with dense supervision before `dense_from` of the run
    dense_share_early: float = 0.15
    dense_share_late: float = 0.40
    dense_from: float = 0.35
    constant_until: float = 0.30  # share of the run before the learning rates begin to fall
    teaching_boost: float = 1.0  # on the matching and attention losses in the first half
    auxiliary_warmup: int = 0  # steps in which only the auxiliary heads learn from their losses
    validation_scenes: int = 48
    # of `TEST_SETS`; the last one is what the run is for
    validation_sets: tuple[str, ...] = ("std",)
    mixed_precision: bool = False  # blocks in bfloat16
    # backend of torch.compile for blocks; other rounding, the same data
    compiler: str | None = None
    drawing_processes: int = 0  # that decide on scenes ahead of a device that renders them
    # points of AUC@30 that the other sets may lose for weights to be called better
    tolerated_loss: float = 10.0

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise ValueError(f"unknown preset {self.preset!r}; known: {', '.join(PRESETS)}")
        if self.steps < 1 or self.processes < 1:
            raise ValueError(
                f"steps and processes must be at least 1, got {self.steps} and {self.processes}"
            )
        unknown = [name for name in self.validation_sets if name not in TEST_SETS]
        if unknown or not self.validation_sets or self.validation_sets[0] != "std":
            raise ValueError(
                f"validation_sets are {self.validation_sets}; expected std and then any of "
                f"{', '.join(TEST_SETS)}"
            )


def train(
    config: TrainingConfig,
    out: Path,
    *,
    minutes: float | None = None,
    fit_minutes: float | None = None,
    device: str = "cpu",
) -> None:
    """Trains from scratch or from the state in `out`, until `config.steps` or for `minutes`, and
    saves the state.

    With `fit_minutes` the number of steps follows the measured speed, so that the whole schedule
    takes that long; batches then depend on that number, too. Writes `out/state.json`,
    `out/state-*.pt` every minute and `out/log.jsonl` every 25 steps. Batches depend on the seed and
    the step only, so a resumed run continues exactly. Whenever the validation is the best so far,
    the averaged weights are exported to `out/best`. Raises TrainingError if the state in `out` was
    made with another configuration, or after 20 steps in a row without a finite loss.
    """
    if fit_minutes is not None and config.processes > 1 and torch.device(device).type == "cpu":
        raise ValueError(
            "a run that fits its steps to the time computes in one process; give processes 1"
        )
    run = _Run(config, Path(out), device, fitted=fit_minutes is not None)
    try:
        run.go(
            None if minutes is None else 60 * minutes,
            None if fit_minutes is None else 60 * fit_minutes,
        )
    finally:
        run.close()


def export(out: Path, checkpoint: Path) -> None:
    """Writes the averaged weights of the run in `out` as a checkpoint folder.

    `model.safetensors` holds float16 tensors under the public VGGT names, `config.json` the
    network's configuration, `training.json` how it was made, `domain.json` what it has seen.

    Raises TrainingError if there is no state or a weight does not fit float16.
    """
    state = load_state(Path(out))
    if state is None:
        raise TrainingError(f"{out} holds no training state; run the training first")
    manifest, tensors = state
    net = VGGT(PRESETS[manifest["config"]["preset"]])
    net.load_state_dict(_section(tensors, "average"))
    weights = {name: tensor.half().contiguous() for name, tensor in net.state_dict().items()}
    overflown = [name for name, tensor in weights.items() if not tensor.isfinite().all()]
    if overflown:
        raise TrainingError(f"weights beyond float16: {', '.join(overflown)}")
    checkpoint = Path(checkpoint)
    checkpoint.mkdir(parents=True, exist_ok=True)
    save_file(weights, checkpoint / "model.safetensors", metadata={"format": "pt"})
    write_json(checkpoint / "config.json", net.config.to_dict())
    seen = _TRAINED_ON.get(manifest["config"].get("recipe", "rooms"), "drawn scenes")
    write_json(checkpoint / DOMAIN, Domain(seen, photographs=False).to_dict())
    records = read_log(Path(out))
    latest = {key: [r for r in records if key in r][-1:] for key in ("losses", "validation")}
    write_json(
        checkpoint / "training.json",
        {
            "command": manifest["command"],
            "origin": manifest["origin"],
            "commit": manifest["commit"],
            "torch": manifest["torch"],
            "seed": manifest["config"]["seed"],
            "steps": manifest["step"],
            "planned_steps": manifest["config"]["steps"],
            "frames": manifest["frames"],
            "minutes": round(manifest["elapsed_s"] / 60, 1),
            "core_hours": round(manifest["core_s"] / 3600, 2),
            "config": manifest["config"],
            **{key: found[0] if found else None for key, found in latest.items()},
        },
    )


class _Run:
    """Everything that changes from step to step."""

    def __init__(self, config: TrainingConfig, out: Path, device: str, *, fitted: bool) -> None:
        self.config, self.out, self.device = config, out, torch.device(device)
        self.step = self.frames = self.bad_steps = self.skipped = 0
        # of the weights that the run starts from, one a validation set
        self.first_aucs: list[float] = []
        self.best_aucs: list[float] = []
        self.validation_scenes: dict[str, SceneBatch] = {}
        self.elapsed = 0.0
        self.core_seconds = 0.0  # of this machine's cores, without what others took of them
        keep_freed_memory()
        self.previous_threads = torch.get_num_threads()
        if config.processes > 1:
            torch.set_num_threads(1)  # more threads would spin on the cores of the other processes
        if self.device.type == "cuda":
            torch.set_float32_matmul_precision("high")  # TF32 in what is not bfloat16
        self._build()
        out.mkdir(parents=True, exist_ok=True)
        self.commit = commit()
        self.origin = None if config.start is None else _origin(config.start)
        self._resume(fitted)
        self._divide()

    def close(self) -> None:
        for part in self.other_parts:
            part.close()
        if self.part.drawing is not None:
            self.part.drawing.close()
        torch.set_num_threads(self.previous_threads)

    def _divide(self) -> None:
        """One part of every batch here, the others in processes of their own (a GPU computes a
        batch whole)."""
        config = self.config
        parts = config.processes if self.device.type == "cpu" else 1
        shared = PartConfig(
            PRESETS[config.preset], config.losses, config.batches, config.seed, config.steps, parts
        )
        if parts > 1:
            self.weights.share_memory_()
        drawing = DrawingProcesses(config.drawing_processes) if config.drawing_processes else None
        self.part = Part(shared, 0, self.objective, torch.zeros_like(self.weights), drawing)
        self.other_parts = [PartProcess(shared, part, self.weights) for part in range(1, parts)]

    def _build(self) -> None:
        config = self.config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            net = VGGT(PRESETS[config.preset])
            if config.start is None:
                initialise(net)
            else:
                _take_weights(net, config.start)
            self.average = VGGT(net.config)
            self.average.load_state_dict(net.state_dict())
            self.objective = Objective(net, config.losses, mixed_precision=config.mixed_precision)
        self.objective.to(self.device)
        if config.compiler is not None:
            self.objective.compile_blocks(config.compiler)
        self.average.to(self.device).eval().requires_grad_(False)
        named = {name: p for name, p in self.objective.named_parameters() if p.requires_grad}
        self.parameters = trainable(self.objective)
        self.weights = flatten_weights(self.parameters)
        matrices = {name: p for name, p in named.items() if _is_block_matrix(name, p)}
        fused = [p for name, p in matrices.items() if name.endswith("qkv.weight")]
        plain = [p for name, p in matrices.items() if not name.endswith("qkv.weight")]
        self.muon = Muon(plain, fused, weight_decay=config.weight_decay)
        self.others = {name: p for name, p in named.items() if name not in matrices}
        # neither norms and biases nor token tables
        decayed = [p for p in self.others.values() if p.ndim in (2, 4)]
        free = [p for p in self.others.values() if p.ndim not in (2, 4)]
        self.adam = torch.optim.AdamW(
            [
                {"params": decayed, "weight_decay": config.weight_decay},
                {"params": free, "weight_decay": 0.0},
            ],
            lr=config.learning_rate,
            betas=(0.9, 0.98),
            fused=True,
        )

    def go(self, seconds: float | None, fit_seconds: float | None) -> None:
        config = self.config
        started = time.monotonic()
        pace = (self.step, started)  # where the speed was last measured
        elapsed_before, core_before = self.elapsed, self.core_seconds
        parts = 1 + len(self.other_parts)
        worked = time.process_time()
        interval = _Interval()
        saved = time.monotonic()
        if config.start is not None and not self.first_aucs:
            self._validate()
        bar = tqdm(
            total=config.steps, initial=self.step, unit="step", disable=not sys.stderr.isatty()
        )
        while self.step < config.steps and (
            seconds is None or time.monotonic() - started < seconds
        ):
            terms, frames = self._advance()
            interval.add(terms, frames)
            self.elapsed = elapsed_before + time.monotonic() - started
            self.core_seconds = core_before + parts * (time.process_time() - worked)
            bar.update()
            if fit_seconds is not None and time.monotonic() - pace[1] >= _FIT_SECONDS:
                pace = self._fit(fit_seconds, pace)
                config = self.config
                bar.total = config.steps
            if self.step % LOG_EVERY == 0 or self.step == config.steps:
                record = self._record(interval)
                self._log(record)
                bar.set_postfix(loss=record["losses"].get("total"), frames_s=record["frames_per_s"])
                if bar.disable and self.step % PRINT_EVERY == 0:
                    print(_sentence(record, config.steps), file=sys.stderr, flush=True)
                interval = _Interval()
            if self.step % VALIDATE_EVERY == 0 or self.step == config.steps:
                self._validate()
                interval = _Interval()
            if time.monotonic() - saved >= SAVE_SECONDS:
                self._save()
                saved = time.monotonic()
        bar.close()
        self._save()

    def _fit(self, seconds: float, pace: tuple[int, float]) -> tuple[int, float]:
        """Sets the number of steps to what `seconds` in all allow at the speed since `pace`;
        returns the new pace."""
        now = time.monotonic()
        step_seconds = (now - pace[1]) / (self.step - pace[0])
        left = max(0.0, seconds - self.elapsed) / step_seconds
        self.config = replace(self.config, steps=self.step + round(left))
        self.part.batches.steps = self.config.steps
        return self.step, now

    def _validate(self) -> None:
        """Scores the averaged weights, and exports them if no others were better so far."""
        config = self.config
        side = PRESETS[config.preset].img_size
        if not self.validation_scenes:
            for name in config.validation_sets:
                scenes = validation_scenes(
                    config.validation_scenes, (side, side), TEST_SETS[name], self.device
                )
                self.validation_scenes[name] = scenes
        scores: dict[str, float] = {}
        for name, scenes in self.validation_scenes.items():
            prefix = "" if name == "std" else f"{name}_"
            scores |= {
                f"{prefix}{key}": round(value, 4)
                for key, value in validate(self.average, scenes).items()
            }
        self._log({"step": self.step, "validation": scores})
        if not sys.stderr.isatty():
            print(f"step {self.step}: validation {scores}", file=sys.stderr, flush=True)
        aucs = [
            scores["auc_30" if name == "std" else f"{name}_auc_30"]
            for name in config.validation_sets
        ]
        if config.start is not None and not self.first_aucs:
            self.first_aucs = self.best_aucs = aucs
            return
        kept = all(
            now >= first - config.tolerated_loss
            for now, first in zip(aucs[:-1], self.first_aucs, strict=False)
        )
        if kept and (not self.best_aucs or aucs[-1] > self.best_aucs[-1]):
            self.best_aucs = aucs
            self._save()
            export(self.out, self.out / BEST)

    def _advance(self) -> tuple[dict[str, float], int]:
        """One step: gradients of all parts, clipped together, then both optimisers and the
        average."""
        config, step = self.config, self.step
        results = self._compute(step)
        scenes = sum(result.scenes for result, _ in results)
        terms: dict[str, float] = {}
        total = self.part.gradients.mul_(results[0][0].scenes / scenes)
        for result, gradients in results:
            share = result.scenes / scenes
            for name, value in result.terms.items():
                terms[name] = terms.get(name, 0.0) + share * value
            if gradients is not total and share > 0:
                total.add_(gradients, alpha=share)
        for parameter, gradient in zip(self.parameters, views(self.parameters, total), strict=True):
            parameter.grad = gradient
        norm = float(nn.utils.clip_grad_norm_(self.parameters, config.clip_norm, foreach=True))
        if math.isfinite(terms["total"]) and math.isfinite(norm):
            self.bad_steps = 0
            factor = learning_rate_factor(step, config.steps, constant_until=config.constant_until)
            for group in self.adam.param_groups:
                group["lr"] = config.learning_rate * factor
            self.adam.step()
            self.muon.step(config.muon_learning_rate * factor)
            weights: list[Tensor] = list(self.objective.net.parameters())
            averages: list[Tensor] = list(self.average.parameters())
            torch._foreach_lerp_(averages, weights, 1 - averaging_decay(step))
        else:
            self.bad_steps += 1
            self.skipped += 1
            terms = {}
            if self.bad_steps >= _MAX_BAD_STEPS:
                raise TrainingError(
                    f"no finite loss in {self.bad_steps} steps up to step {step} (gradient norm "
                    f"{norm}); the last "
                    "good state is in the output folder: lower the learning rate or look at the "
                    "scenes of that step"
                )
        for parameter in self.parameters:
            parameter.grad = None
        frames = sum(result.frames for result, _ in results)
        self.step += 1
        self.frames += frames
        return terms, frames

    def _compute(self, step: int) -> list[tuple[PartResult, Tensor]]:
        """Every part's result and flat gradients, computed at once."""
        config = self.config
        pool = None
        if not self.part.batches.holds(step):
            rendering = [part.render(step) for part in self.other_parts]
            pool = concatenate([self.part.render(step), *(future.result() for future in rendering)])
        early = step < config.dense_from * config.steps
        dense_share = config.dense_share_early if early else config.dense_share_late
        boost = early_boost(step, config.steps, config.teaching_boost)
        fade = late_fade(step, config.steps)
        plan = StepPlan(dense_share, boost * fade, boost, step < config.auxiliary_warmup)
        how = (step, pool, plan)
        computing = [part.compute(*how) for part in self.other_parts]
        results = [(self.part.compute(*how), self.part.gradients)]
        for part, future in zip(self.other_parts, computing, strict=True):
            results.append((future.result(), part.gradients))
        return results

    def _record(self, interval: _Interval) -> dict[str, Any]:
        means = interval.means()
        accuracy = means.pop("attention_accuracy", None)
        factor = learning_rate_factor(
            self.step - 1, self.config.steps, constant_until=self.config.constant_until
        )
        return {
            "step": self.step,
            "losses": means,
            "attention_accuracy": accuracy,
            "learning_rate": self.config.learning_rate * factor,
            "frames_per_s": round(
                interval.frames / max(1e-9, time.monotonic() - interval.started), 1
            ),
            "elapsed_s": round(self.elapsed, 1),
            "core_s": round(self.core_seconds, 1),
            "skipped_steps": self.skipped,
        }

    def _log(self, record: Mapping[str, Any]) -> None:
        with (self.out / LOG).open("a") as file:
            file.write(json.dumps(record) + "\n")

    def _save(self) -> None:
        tensors = {
            f"weights.{name}": tensor for name, tensor in self.objective.state_dict().items()
        }
        tensors |= {f"average.{name}": tensor for name, tensor in self.average.state_dict().items()}
        tensors |= {f"muon.{name}": tensor for name, tensor in self.muon.state().items()}
        for name, parameter in self.others.items():
            for key, tensor in self.adam.state.get(parameter, {}).items():
                tensors[f"adam.{key}.{name}"] = tensor
        facts = {
            "config": asdict(self.config),
            "command": _command(self.config),
            "origin": self.origin,
            "commit": self.commit,
            "torch": torch.__version__,
            "frames": self.frames,
            "skipped_steps": self.skipped,
            "elapsed_s": round(self.elapsed, 1),
            "core_s": round(self.core_seconds, 1),
            "first_aucs": self.first_aucs,
            "best_aucs": self.best_aucs,
        }
        save_state(self.out, self.step, tensors, facts)

    def _resume(self, fitted: bool) -> None:
        state = load_state(self.out)
        if state is None:
            (self.out / LOG).unlink(missing_ok=True)
            return
        manifest, tensors = state
        ours = json.loads(json.dumps(asdict(self.config)))
        changed = [k for k in ours if k not in _MAY_CHANGE and ours[k] != manifest["config"].get(k)]
        if changed:
            differences = ", ".join(
                f"{k} was {manifest['config'].get(k)!r}, now {ours[k]!r}" for k in changed
            )
            raise TrainingError(
                f"the state in {self.out} was made with another configuration: {differences}"
            )
        if fitted:
            self.config = replace(
                self.config, steps=max(manifest["config"]["steps"], manifest["step"] + 1)
            )
        self.objective.load_state_dict(_section(tensors, "weights"))
        self.average.load_state_dict(_section(tensors, "average"))
        self.muon.load_state(_section(tensors, "muon"))
        for key in ("step", "exp_avg", "exp_avg_sq"):
            for name, tensor in _section(tensors, f"adam.{key}").items():
                self.adam.state[self.others[name]][key] = tensor.to(self.device)
        self.step, self.frames, self.skipped = (
            manifest["step"],
            manifest["frames"],
            manifest["skipped_steps"],
        )
        self.elapsed, self.core_seconds = manifest["elapsed_s"], manifest["core_s"]
        self.origin = manifest["origin"]
        self.first_aucs, self.best_aucs = manifest["first_aucs"], manifest["best_aucs"]
        kept = [record for record in read_log(self.out) if record["step"] <= self.step]
        (self.out / LOG).write_text("".join(json.dumps(record) + "\n" for record in kept))


class _Interval:
    """Means over the steps since the last log line."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.frames = 0
        self._sums: dict[str, list[float]] = {}

    def add(self, terms: Mapping[str, float], frames: int) -> None:
        self.frames += frames
        for name, value in terms.items():
            self._sums.setdefault(name, []).append(value)

    def means(self) -> dict[str, float]:
        return {name: round(sum(values) / len(values), 5) for name, values in self._sums.items()}


def _take_weights(net: VGGT, checkpoint: str) -> None:
    source = load_checkpoint(checkpoint)
    if source.config != net.config:
        raise TrainingError(
            f"the checkpoint {checkpoint} has another shape than the preset that is trained"
        )
    net.load_state_dict(source.state_dict())


def _origin(checkpoint: str) -> dict[str, Any]:
    """How the weights that a run starts from were made: their hash, and their own record if one
    lies beside them."""
    weights, _ = resolve_checkpoint(checkpoint)
    record = weights.parent / "training.json"
    return {
        "checkpoint": checkpoint,
        "sha256": digest(weights),
        "training": json.loads(record.read_text()) if record.is_file() else None,
    }


def _is_block_matrix(name: str, parameter: Tensor) -> bool:
    """Muon's share: the two-dimensional weights of the transformer blocks of aggregator and image
    encoder."""
    blocks = ("frame_blocks.", "global_blocks.", "patch_embed.blocks.")
    return parameter.ndim == 2 and any(
        name.startswith(f"net.aggregator.{prefix}") for prefix in blocks
    )


def _section(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(f"{prefix}."): t
        for name, t in tensors.items()
        if name.startswith(f"{prefix}.")
    }


def _sentence(record: Mapping[str, Any], steps: int) -> str:
    total = record["losses"].get("total", math.nan)
    accuracy = record["attention_accuracy"]
    matched = "" if accuracy is None else f", attention accuracy {accuracy:.2f}"
    return (
        f"step {record['step']}/{steps}: loss {total:.3f}{matched}, "
        f"{record['frames_per_s']} frames/s, {record['elapsed_s'] / 60:.1f} min"
    )


def _command(config: TrainingConfig) -> str:
    start = "" if config.start is None else f" --start {config.start}"
    recipe = "" if config.recipe == "rooms" else f" --recipe {config.recipe}"
    return (
        f"quantvggt demo train --out runs/demo{recipe} --steps {config.steps} "
        f"--seed {config.seed}{start}"
    )
