"""`quantvggt ablate`: what each step of a recipe is worth, and what one more would be.

Every variant is calibrated on the same samples and scored on the same held-out scenes. How far its
answers lie from full precision's is compared with the recipe's scene by scene, so that what is hard
for both cancels. "another seed" changes nothing but the random signs of the rotations: it tells how
much of a difference is luck.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from torch import Tensor

from evaluation import bootstrap
from evaluation.bootstrap import Interval
from evaluation.evaluate import Comparison, compare
from evaluation.kept import kept
from evaluation.remembered import Remembered
from model import families
from model.files import provenance
from model.files.checkpoint import load_checkpoint
from model.network.network import Network
from model.reconstruct import geometry
from quantization.calibration import samples
from quantization.convert import quantize, reader
from quantization.recipe import RECIPES, Recipe
from scenes.scene import Scene
from scenes.synthetic.generator import SyntheticScenes

Change = Callable[[Recipe, Network], Recipe]

DEVIATIONS = ("rotation_deg", "depth", "points")
"""By which variants are compared: camera turn in degrees, relative change of depth, and change of
points as a share of the scene."""


def _middle(recipe: Recipe, net: Network) -> Recipe:
    """The middle third of the blocks that look at the whole scene with 8-bit activations."""
    blocks = [stage.name for stage in net.blocks() if stage.kind == "global"]
    third = len(blocks) // 3
    middle = tuple(f"{name}." for name in blocks[third : len(blocks) - third])
    family = families.of(net.config)
    layers = [
        name
        for name, _ in net.named_modules()
        if family.part_of(name) is not None and name.startswith(middle)
    ]
    return replace(recipe, overrides=(*recipe.overrides, *((name, "w4a8") for name in layers)))


VARIANTS: Mapping[str, Change] = {
    "another seed": lambda recipe, _: replace(recipe, seed=recipe.seed + 1),
    "no rotation": lambda recipe, _: replace(recipe, rotate=False),
    "no smoothing": lambda recipe, _: replace(recipe, smooth=False),
    "alpha 0.5": lambda recipe, _: replace(recipe, alpha=0.5),
    "no clipping": lambda recipe, _: replace(recipe, clip_weights=False, clip_activations=False),
    "rounding to nearest": lambda recipe, _: replace(recipe, rounding="nearest"),
    "no folding": lambda recipe, _: replace(recipe, fold=False),
    "no correction": lambda recipe, _: replace(recipe, correct=False),
    "inputs of the float network": lambda recipe, _: replace(recipe, propagate="float"),
    "codes for 4-bit activations alone": lambda recipe, _: replace(recipe, wide_share=0.0),
    "codes for 8-bit activations alone": lambda recipe, _: replace(recipe, wide_share=1.0),
    "blocks learned": lambda recipe, _: replace(recipe, learning_epochs=15),
    "middle of the scene's blocks in W4A8": _middle,
}
"""By name: the recipe with one step less or more."""


@dataclass(frozen=True)
class Ablated:
    """One variant at one number of views: what it keeps of full precision, how far its answers lie
    from it, and by how much farther than the recipe's own, paired by scene."""

    name: str
    views: int
    kept: Mapping[str, Interval | None]
    deviation: Mapping[str, Interval | None]
    change: Mapping[str, Interval | None]
    seconds: float  # of quantising

    @property
    def verdict(self) -> str:
        """Whether cameras move less or more than by the recipe itself, beyond the interval."""
        turn = self.change["rotation_deg"]
        if turn is None or turn.low <= 0 <= turn.high:
            return ""
        return "better" if turn.high < 0 else "worse"


def run(args: argparse.Namespace) -> int:
    """Measures and prints. Raises ValueError."""
    net = load_checkpoint(args.checkpoint, device=args.device)
    chosen = samples.choose(
        args.calibration,
        net.config,
        reader(net),
        samples=args.samples,
        frames=args.frames,
        pool=args.pool or 5 * args.samples,
        sampling="nfds",
        seed=args.seed,
        data=args.data,
        device=args.device,
    )
    side = families.of(net.config).grid(net.config).longer_side
    scenes = {
        views: list(SyntheticScenes("test", args.scenes, views, side, side, seed=args.seed))
        for views in args.views
    }
    recipe = replace(RECIPES[args.recipe], seed=args.seed)
    changes = {name: VARIANTS[name] for name in args.only or VARIANTS}
    found = ablate(
        net, recipe, changes, chosen.images, scenes, args.activations == "8", args.device
    )
    document = {
        "checkpoint": provenance.describe(args.checkpoint),
        "recipe": args.recipe,
        "activations": args.activations,
        "calibration": chosen.facts,
        "scenes": args.scenes,
        "seed": args.seed,
        "variants": [{**asdict(one), "verdict": one.verdict} for one in found],
    }
    if args.out is not None:
        args.out.write_text(json.dumps(document, indent=1) + "\n")
        print(f"written: {args.out}", file=sys.stderr)
    print(json.dumps(document) if args.json else table(found))
    return 0


def ablate(
    net: Network,
    recipe: Recipe,
    changes: Mapping[str, Change],
    images: Sequence[Tensor],
    scenes: Mapping[int, Sequence[Scene]],
    wide: bool = False,
    device: str = "cpu",
) -> list[Ablated]:
    """`recipe` and each of its `changes`, calibrated on `images`, at each number of views.

    `wide` scores every variant with 8-bit activations where it offers them.
    """
    answers = {views: Remembered(partial(geometry, net)) for views in scenes}
    recipes = {"the recipe": recipe, **{n: change(recipe, net) for n, change in changes.items()}}
    base: dict[int, Comparison] = {}
    found = []
    for name, variant in recipes.items():
        started = time.monotonic()
        made = quantize(net.config, reader(net), variant, images, device=device)
        seconds = time.monotonic() - started
        if wide:
            for layer_name, layer in made.wide.items():
                made.net.set_submodule(layer_name, layer)
        for views, own in scenes.items():
            label = f"{name}, {views} views"
            result = compare(answers[views], partial(geometry, made.net), own, label=label)
            found.append(_ablated(name, views, result, base.setdefault(views, result), seconds))
    return found


def _ablated(name: str, views: int, found: Comparison, base: Comparison, seconds: float) -> Ablated:
    change: dict[str, Interval | None] = {}
    for key in DEVIATIONS:
        pairs = [
            (getattr(own, key), getattr(other, key))
            for own, other in zip(found.deviation.records, base.deviation.records, strict=True)
        ]
        known = [a - b for a, b in pairs if a is not None and b is not None]
        statistic = bootstrap.mean_over_scenes(known)
        change[key] = bootstrap.interval(statistic, len(known)) if known else None
    shares = kept(found.reference, found.other)
    moved = {key: getattr(found.deviation, key) for key in DEVIATIONS}
    return Ablated(name, views, shares, moved, change, round(seconds, 1))


def table(found: Sequence[Ablated]) -> str:
    """A Markdown table, a row for each variant and number of views."""
    header = (
        "variant", "views", "AUC@30 kept, %", "AUC@5 kept, %", "camera turn, °", "more, °",
        "depth change", "more", "",
    )  # fmt: skip
    lines = [header, ("---",) * len(header)]
    for one in found:
        turn, depth = "rotation_deg", "depth"
        cells: list[Any] = [one.name, one.views]
        cells += [_shown(one.kept["auc_30"], 1), _shown(one.kept["auc_5"], 1)]
        for key, digits in ((turn, 2), (depth, 4)):
            cells += [_shown(one.deviation[key], digits), _shown(one.change[key], digits, "+")]
        lines.append((*map(str, cells), one.verdict))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _shown(found: Interval | None, digits: int, sign: str = "") -> str:
    if found is None:
        return "-"
    value, low, high = (f"{x:{sign}.{digits}f}" for x in (found.value, found.low, found.high))
    return f"{value} [{low}, {high}]"
