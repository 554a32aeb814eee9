"""A training run, step by step: gradients in parts, Muon and AdamW, averaged weights, a state to
resume from, a log."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from model import VGGT
from model.families.vggt.presets import PRESETS
from model.files.provenance import commit
from scenes.scene import SceneBatch
from scenes.synthetic.distribution import TEST_SETS
from training.batches import concatenate
from training.config import TrainingConfig
from training.curve import LOG, read_log
from training.drawing import DrawingProcesses
from training.errors import TrainingError
from training.initialisation import initialise
from training.interval import Interval, sentence
from training.memory import keep_freed_memory
from training.muon import Muon, is_block_matrix
from training.objective import Objective
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
from training.start import origin, take_weights
from training.state import load_state, save_state, section
from training.validation import validate, validation_scenes

LOG_EVERY, PRINT_EVERY, VALIDATE_EVERY = 25, 100, 500
SAVE_SECONDS = 60.0
_MAX_BAD_STEPS = 20
# a resumed run may be shorter or use other cores
_MAY_CHANGE = ("steps", "processes", "compiler", "drawing_processes")
_FIT_SECONDS = 30.0


class Run:
    """Everything that changes from step to step."""

    def __init__(
        self,
        config: TrainingConfig,
        out: Path,
        device: str,
        *,
        fitted: bool,
        improved: Callable[[], None],
    ) -> None:
        """`improved` is called whenever the averaged weights are the best so far, and saved."""
        self.config, self.out, self.device = config, out, torch.device(device)
        self._improved = improved
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
        self.origin = None if config.start is None else origin(config.start)
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
                take_weights(net, config.start)
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
        matrices = {name: p for name, p in named.items() if is_block_matrix(name, p)}
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
        interval = Interval()
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
                    print(sentence(record, config.steps), file=sys.stderr, flush=True)
                interval = Interval()
            if self.step % VALIDATE_EVERY == 0 or self.step == config.steps:
                self._validate()
                interval = Interval()
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
            self._improved()

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

    def _record(self, interval: Interval) -> dict[str, Any]:
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
        self.objective.load_state_dict(section(tensors, "weights"))
        self.average.load_state_dict(section(tensors, "average"))
        self.muon.load_state(section(tensors, "muon"))
        for key in ("step", "exp_avg", "exp_avg_sq"):
            for name, tensor in section(tensors, f"adam.{key}").items():
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


def _command(config: TrainingConfig) -> str:
    start = "" if config.start is None else f" --start {config.start}"
    recipe = "" if config.recipe == "rooms" else f" --recipe {config.recipe}"
    return (
        f"quantvggt demo train --out runs/demo{recipe} --steps {config.steps} "
        f"--seed {config.seed}{start}"
    )
