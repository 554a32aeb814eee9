"""What is compared, section by section: a name, a recipe, and the numbers of views that it is
scored at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from quantization.recipe import RECIPES, Recipe

BEST, DSFQ = RECIPES["best"], RECIPES["dsfq-static"]
EIGHT_BIT_BUDGET = 0.1
SAMPLING_SEEDS = range(5)


@dataclass(frozen=True)
class Experiment:
    """One row of a table. `mixed`: a tenth of the multiplications gets 8-bit activations, by
    measured sensitivity. `wide`: the same codes with 8-bit activations, as `--activations 8` loads
    an artifact."""

    name: str
    recipe: Recipe
    views: tuple[int, ...]
    mixed: bool = False
    wide: bool = False
    sampling: str = "nfds"
    seed: int = 0


def _everywhere(scheme: str, recipe: Recipe) -> Recipe:
    return recipe.with_parts(aggregator=scheme, image_encoder=scheme, camera_head=scheme)


def _methods() -> Iterator[Experiment]:
    all_views = (2, 4, 8)
    yield Experiment("W8A8 everywhere, DSFQ without learning", _everywhere("w8a8", DSFQ), all_views)
    for name, title in (
        ("rtn", "RTN"),
        ("smoothquant", "SmoothQuant (scale only)"),
        ("quarot", "QuaRot (rotation only)"),
        ("gptq", "GPTQ"),
        ("dsfq-static", "DSFQ without learning"),
        ("dsfq", "DSFQ"),
        ("best", "ours"),
    ):
        yield Experiment(f"W4A4, {title}", RECIPES[name], all_views)
    yield Experiment("W4A4, ours, loaded with 8-bit activations", BEST, all_views, wide=True)
    yield Experiment("W4A4, ours, a tenth in W4A8", BEST, all_views, mixed=True)
    yield Experiment("W4A4 everywhere, ours", _everywhere("w4a4", BEST), (4,))
    for scheme in ("w4a8", "w4a16", "w3a4", "w2a4"):
        yield Experiment(f"{scheme.upper()}, ours", BEST.with_parts(aggregator=scheme), (4,))


def _parts() -> Iterator[Experiment]:
    """DSFQ's parts as in the paper's ablation, then ours one after the other."""
    plain = RECIPES["rtn"]
    yield Experiment("neither", plain, (4,))
    yield Experiment("rotation", RECIPES["quarot"], (4,))
    yield Experiment("scale", RECIPES["smoothquant"], (4,))
    recipe = DSFQ
    yield Experiment("rotation and scale", recipe, (4,))
    for title, change in (
        ("+ clipping", {"clip_weights": True, "clip_activations": True}),
        ("+ rounding by inputs", {"rounding": "gptq"}),
        ("+ correction", {"correct": True}),
        ("+ folding", {"fold": True}),
        ("+ searched alpha", {"alpha": None}),
        ("+ codes for 8-bit activations as well (ours)", {"wide": True}),
    ):
        recipe = replace(recipe, **change)  # type: ignore[arg-type]
        yield Experiment(title, recipe, (4,))
    yield Experiment("ours, float inputs", replace(BEST, propagate="float"), (4,))


def _outliers() -> Iterator[Experiment]:
    for name, title in (
        ("rtn", "RTN"),
        ("smoothquant", "SmoothQuant"),
        ("quarot", "QuaRot"),
        ("gptq", "GPTQ"),
        ("dsfq-static", "DSFQ without learning"),
        ("dsfq", "DSFQ"),
        ("best", "ours"),
    ):
        yield Experiment(title, RECIPES[name], (4,))


def _sampling() -> Iterator[Experiment]:
    for sampling in ("random", "filter", "cluster", "nfds"):
        for seed in SAMPLING_SEEDS:
            yield Experiment(f"{sampling}, seed {seed}", BEST, (4,), sampling=sampling, seed=seed)


SECTIONS: Mapping[str, tuple[Experiment, ...]] = {
    "methods": tuple(_methods()),
    "parts": tuple(_parts()),
    "outliers": tuple(_outliers()),
    "sampling": tuple(_sampling()),
}
