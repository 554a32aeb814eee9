"""`quantvggt sensitivity`: which layers deserve 8-bit activations, measured, under a budget.

Every layer is quantised alone, by the recipe's transforms and rounded to nearest, while all others
stay float; what that moves the network's answer on calibration scenes is the layer's sensitivity.
The layers that move it most for their share of the multiplications get 8-bit activations until the
budget is spent.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor, nn

from kernels import QuantizedLinear
from model import families
from model.files.checkpoint import load_checkpoint
from model.network.network import Network
from model.network.prediction import Prediction
from model.progress import track
from quantization.calibration import samples
from quantization.convert import quantize_network, reader
from quantization.recipe import RECIPES, Recipe


@dataclass(frozen=True)
class Sensitivity:
    """What one layer alone moves: mean relative change of pose encoding and depth; its share of the
    multiplications."""

    layer: str
    pose: float
    depth: float
    share: float

    @property
    def worth(self) -> float:
        """Change per multiplication."""
        return (self.pose + self.depth) / self.share


def run(args: argparse.Namespace) -> int:
    """Measures and prints. Raises ValueError."""
    if not 0 < args.budget <= 1:
        raise ValueError(f"--budget is {args.budget}; expected a share above 0, up to 1")
    net = load_checkpoint(args.checkpoint, device=args.device)
    part = args.part or next(iter(families.of(net.config).parts))
    chosen = samples.choose(
        args.calibration,
        net.config,
        reader(net),
        samples=args.samples,
        frames=args.frames,
        pool=args.samples,
        sampling="random",
        seed=args.seed,
        data=args.data,
        device=args.device,
    )
    found = measure(net, chosen.images, replace(RECIPES["quarot"], seed=args.seed), part)
    document = {
        "checkpoint": args.checkpoint,
        "part": part,
        "budget": args.budget,
        "calibration": chosen.facts,
        "overrides": dict.fromkeys(within_budget(found, args.budget), "w4a8"),
        "sensitivity": [asdict(item) for item in sorted(found, key=lambda item: -item.worth)],
    }
    if args.out is not None:
        args.out.write_text(json.dumps(document, indent=1) + "\n")
        print(f"written: {args.out}", file=sys.stderr)
    if args.json:
        print(json.dumps(document))
        return 0
    for item in sorted(found, key=lambda item: -item.worth):
        mark = "8 bits" if item.layer in document["overrides"] else ""
        print(
            f"{item.layer:45} pose {item.pose:.5f}  depth {item.depth:.5f}  share {item.share:.3f} "
            f" {mark}"
        )
    return 0


@torch.inference_mode()
def measure(net: Network, images: Sequence[Tensor], recipe: Recipe, part: str) -> list[Sensitivity]:
    """The sensitivity of every layer of `part` to quantisation by `recipe`, which must need no
    calibration.

    Raises ValueError if the network has no such part.
    """
    family = families.of(net.config)
    if part not in family.parts:
        raise ValueError(f"this network has no part {part!r}; it has {', '.join(family.parts)}")
    quantised = dict(quantize_network(net, recipe).named_modules())
    linears = {
        n: m
        for n, m in net.named_modules()
        if isinstance(m, nn.Linear) and family.part_of(n) == part
    }
    total = sum(layer.weight.numel() for layer in linears.values())
    answers = [net(sample[None].to(next(net.parameters()).device)) for sample in images]
    found = []
    for name, layer in track(linears.items(), "measuring layers"):
        other = quantised[name]
        assert isinstance(other, QuantizedLinear)
        net.set_submodule(name, other)
        try:
            changes = [
                _change(net(sample[None].to(layer.weight.device)), a)
                for sample, a in zip(images, answers, strict=True)
            ]
        finally:
            net.set_submodule(name, layer)
        pose, depth = (sum(column) / len(changes) for column in zip(*changes, strict=True))
        found.append(Sensitivity(name, pose, depth, layer.weight.numel() / total))
    return found


def within_budget(found: Sequence[Sensitivity], budget: float) -> list[str]:
    """Names of the layers to favour: by falling worth, as long as their shares together stay within
    `budget`."""
    chosen, spent = [], 0.0
    for item in sorted(found, key=lambda item: -item.worth):
        if spent + item.share <= budget + 1e-9:
            chosen.append(item.layer)
            spent += item.share
    return sorted(chosen)


def _change(answer: Prediction, reference: Prediction) -> tuple[float, float]:
    """Relative change (root mean square) of pose encoding and depth."""
    pairs = ((answer.pose_enc, reference.pose_enc), (answer.depth, reference.depth))
    found = [0.0 if a is None or b is None else float((a - b).norm() / b.norm()) for a, b in pairs]
    return found[0], found[1]
