"""Training of a network: a run from its start or its state on, and its weights as a checkpoint."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

from model import VGGT
from model.families.vggt.presets import PRESETS
from model.files.domain import DOMAIN, Domain
from training.config import TrainingConfig
from training.curve import read_log
from training.errors import TrainingError
from training.run import Run
from training.state import load_state, section, write_json

BEST = "best"
_ROOMS = "drawn rooms with textured boxes and spheres"
_FREE = "drawn rooms, objects and house fronts"  # what the scenes' dial turns to


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
    out = Path(out)
    run = Run(
        config,
        out,
        device,
        fitted=fit_minutes is not None,
        improved=lambda: export(out, out / BEST),
    )
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
    net.load_state_dict(section(tensors, "average"))
    weights = {name: tensor.half().contiguous() for name, tensor in net.state_dict().items()}
    overflown = [name for name, tensor in weights.items() if not tensor.isfinite().all()]
    if overflown:
        raise TrainingError(f"weights beyond float16: {', '.join(overflown)}")
    checkpoint = Path(checkpoint)
    checkpoint.mkdir(parents=True, exist_ok=True)
    save_file(weights, checkpoint / "model.safetensors", metadata={"format": "pt"})
    write_json(checkpoint / "config.json", net.config.to_dict())
    seen = _ROOMS if manifest["config"]["batches"].get("dial_until") is None else _FREE
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
