"""Step "numbers": the demo artifact on this device against the same on a CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.rows import start

ARTIFACT = Path(__file__).parents[2] / "build" / "demo" / "artifact"
FRAMES = 2


def main() -> None:
    step = start("numbers", __doc__)
    if not (ARTIFACT / "manifest.json").exists():
        step.write(left_out=f"there is no {ARTIFACT}; make demo makes it")
        return
    from model.files.artifact import load

    here, there = (load(ARTIFACT, device) for device in (step.device, "cpu"))
    side = here.config.img_size
    images = torch.rand(1, FRAMES, 3, side, side)
    ours, theirs = here(images.to(step.device)), there(images)
    for name, value in tensors(theirs).items():
        got = tensors(ours)[name].cpu().float()
        scale = value.float().abs().max().item()
        difference = (got - value.float()).abs()
        step.write(
            output=name,
            largest=scale,
            largest_difference=difference.max().item(),
            mean_difference=difference.mean().item(),
        )


def tensors(output: Any, name: str = "") -> dict[str, torch.Tensor]:
    """The tensors of a network's output, by their names in it."""
    if isinstance(output, torch.Tensor):
        return {name: output}
    found: dict[str, torch.Tensor] = {}
    if isinstance(output, (list, tuple)):
        members = ((str(place), value) for place, value in enumerate(output))
    elif isinstance(output, dict):
        members = ((str(key), value) for key, value in output.items())
    else:
        members = ((key, value) for key, value in vars(output).items())
    for key, value in members:
        if isinstance(value, torch.Tensor | list | tuple | dict):
            found |= tensors(value, f"{name}.{key}" if name else key)
    return found


if __name__ == "__main__":
    main()
