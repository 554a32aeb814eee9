"""Training batches as a pure function of (seed, step), so that a resumed run sees what an
uninterrupted one sees."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from scenes.scene import SceneBatch
from scenes.synthetic.distribution import SceneDistribution
from scenes.synthetic.generator import SceneRequest, draw_scenes, render
from training.photography import Photography
from training.schedule import difficulty


@dataclass(frozen=True)
class BatchConfig:
    """Which scenes a step sees.

    A pool is rendered once and used for `reuse` steps, each with other frames of it, another first
    frame and permuted colours. A short pool holds 4-frame scenes, a long one 8-frame scenes; both
    hold `pool_frames` frames.
    """

    frames_per_step: int = 32
    pool_frames: int = 64
    reuse: int = 5
    # (height, width)
    sizes: tuple[tuple[int, int], ...] = ((96, 96), (72, 96), (96, 72), (60, 96), (96, 60))
    size_weights: tuple[float, ...] = (0.5, 0.125, 0.125, 0.125, 0.125)
    long_pools: float = 0.40
    # (frames, probability)
    short_frames: tuple[tuple[int, float], ...] = ((2, 0.60), (3, 0.15), (4, 0.25))
    long_frames: tuple[tuple[int, float], ...] = ((2, 0.10), (4, 0.20), (6, 0.30), (8, 0.40))
    # share of the run in which the camera orbits grow to their full range
    easy_fraction: float = 0.10
    dial_until: float | None = (
        None  # share of the run in which the scenes' dial turns from 0 to 1; None: standard rooms
    )
    standard_share: float = 0.4  # of the scenes: standard rooms at any dial
    # pictures as cameras spoil them; colours are then permuted in half of the batches only
    photography: bool = False
    # share of the run after which `large_sizes` replace `sizes`, with the same weights
    large_from: float = 1.0
    large_sizes: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        if len(self.sizes) != len(self.size_weights) or (
            self.large_sizes and len(self.large_sizes) != len(self.sizes)
        ):
            raise ValueError("sizes, size_weights and large_sizes must be equally many")
        if self.large_from < 1 and not self.large_sizes:
            raise ValueError("large_from needs large_sizes")


def generator(*keys: object) -> torch.Generator:
    """A random generator that depends on `keys` and on nothing else."""
    digest = hashlib.sha256("/".join(map(str, keys)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


def distribution_at(step: int, steps: int, config: BatchConfig) -> SceneDistribution:
    """The scene distribution of a step: easy ones first.

    Standard rooms start with narrow camera orbits that are full after `easy_fraction` of the run;
    with `dial_until` the dial turns from standard rooms to free cameras.
    """
    if config.dial_until is not None:
        dial = difficulty(step, steps, config.dial_until)
        return SceneDistribution.at_dial(dial, standard_share=config.standard_share)
    full = SceneDistribution()
    ease = 1 - difficulty(step, steps, config.easy_fraction)
    (low, high), (easy_low, easy_high) = full.half_range, (5.0, 20.0)
    return replace(
        full, half_range=(low + ease * (easy_low - low), high + ease * (easy_high - high))
    )


class TrainingBatches:
    """Draws batch n from `config`, for a run of `steps` steps; its pixels are made on `device` and
    stay there."""

    def __init__(
        self, config: BatchConfig, seed: int, steps: int, device: torch.device | str = "cpu"
    ) -> None:
        self.config, self.seed, self.steps, self.device = config, seed, steps, torch.device(device)
        self._pool_index = -1
        self._pool: SceneBatch | None = None

    def holds(self, step: int) -> bool:
        """Whether the pool at hand is the one that `step` draws from."""
        return step // self.config.reuse == self._pool_index

    def request(self, step: int) -> SceneRequest:
        """The scenes of the pool that `step` draws from."""
        config = self.config
        index = step // config.reuse
        random = generator(self.seed, "pool", index)
        first_step = index * config.reuse
        sizes = config.sizes if first_step < config.large_from * self.steps else config.large_sizes
        height, width = sizes[_choose(config.size_weights, random)]
        frames = 8 if torch.rand((), generator=random) < config.long_pools else 4
        count = max(1, config.pool_frames // frames)
        first = int(torch.randint(2**40, (), generator=random))
        distribution = distribution_at(first_step, self.steps, config)
        return SceneRequest(
            range(first, first + count), "train", frames, height, width, distribution
        )

    def render(self, step: int, part: int = 0, parts: int = 1) -> SceneBatch | None:
        """Scenes `part` of `parts` of the pool that `step` draws from, None if none fall to it.

        `concatenate` joins the parts.
        """
        request = self.request(step).part(part, parts)
        return None if request is None else render(draw_scenes(request), self.device)

    def hold(self, step: int, pool: SceneBatch) -> None:
        """Draws from `pool`, the whole of what `render` gives for `step`, from now on."""
        self._pool, self._pool_index = pool, step // self.config.reuse

    def part(self, step: int, part: int = 0, parts: int = 1) -> SceneBatch:
        """Scenes `part` of `parts` of the batch of `step`, whose pool is at hand: normalised and
        augmented."""
        assert self._pool is not None, "hold() comes first"
        assert self.holds(step), "hold() comes first"
        pool, config = self._pool, self.config
        available, pool_frames = pool.images.shape[:2]
        random = generator(self.seed, "step", step)
        choices = config.long_frames if pool_frames == 8 else config.short_frames
        frames = choices[_choose([weight for _, weight in choices], random)][0]
        count = max(1, round(config.frames_per_step / frames))
        scenes = _repeated_permutation(available, count, random)
        chosen = torch.stack(
            [torch.randperm(pool_frames, generator=random)[:frames] for _ in range(count)]
        )
        colours = _ColourChange.draw(count, frames, random)
        mine = slice(count * part // parts, count * (part + 1) // parts)
        batch = _take(pool, scenes[mine].to(self.device), chosen[mine].to(self.device))
        if not config.photography:
            return replace(batch, images=colours[mine].apply(batch.images)).normalised()
        if torch.rand((), generator=random) < 0.5:
            colours = replace(colours, order=torch.arange(3).expand(count, 3))
        photography = Photography.draw(count, frames, random)
        images = photography[mine].apply(colours[mine].apply(batch.images))
        return replace(batch, images=images).normalised()

    def dense_frames(self, step: int, part: int, frames: int, share: float) -> Tensor:
        """Which of the `frames` frames of a part get dense supervision: a random `share`, at least
        one."""
        count = max(1, round(share * frames))
        order = torch.randperm(frames, generator=generator(self.seed, "dense", step, part))
        return order[:count].sort().values


@dataclass(frozen=True)
class _ColourChange:
    """Channel permutation per scene; gain, gamma and channel balance per scene, and a slight gain
    per frame."""

    order: Tensor  # [B, 3] long
    gamma: Tensor  # [B]
    gain: Tensor  # [B, S, 3]

    @classmethod
    def draw(cls, scenes: int, frames: int, random: torch.Generator) -> _ColourChange:
        def spread(amount: float, *shape: int) -> Tensor:
            return torch.exp(amount * (2 * torch.rand(*shape, generator=random) - 1))

        order = torch.stack([torch.randperm(3, generator=random) for _ in range(scenes)])
        gain = (
            spread(0.2, scenes, 1, 1) * spread(0.1, scenes, 1, 3) * spread(0.05, scenes, frames, 1)
        )
        return cls(order, spread(0.25, scenes), gain)

    def __getitem__(self, scenes: slice) -> _ColourChange:
        return _ColourChange(self.order[scenes], self.gamma[scenes], self.gain[scenes])

    def apply(self, images: Tensor) -> Tensor:
        order, gamma, gain = (
            value.to(images.device) for value in (self.order, self.gamma, self.gain)
        )
        rows = torch.arange(len(images), device=images.device)[:, None]
        permuted = images.transpose(1, 2)[rows, order].transpose(1, 2)  # [B, S, 3, H, W]
        curved = permuted.clamp(min=1e-3).pow(gamma.view(-1, 1, 1, 1, 1))
        return (curved * gain[..., None, None]).clamp(0, 1)


def _choose(weights: Iterable[float], random: torch.Generator) -> int:
    return int(
        torch.multinomial(torch.tensor(list(weights), dtype=torch.float64), 1, generator=random)
    )


def _repeated_permutation(available: int, count: int, random: torch.Generator) -> Tensor:
    """`count` scenes out of `available`, as evenly as possible."""
    rounds = -(-count // available)
    return torch.cat([torch.randperm(available, generator=random) for _ in range(rounds)])[:count]


def _take(pool: SceneBatch, scenes: Tensor, frames: Tensor) -> SceneBatch:
    """Frames `[B, S]` of scenes `[B]`."""
    rows = scenes[:, None]
    return SceneBatch(
        images=pool.images[rows, frames],
        extrinsics=pool.extrinsics[rows, frames],
        intrinsics=pool.intrinsics[rows, frames],
        depth=pool.depth[rows, frames],
    )


def concatenate(parts: Sequence[SceneBatch | None]) -> SceneBatch:
    """The scenes of several batches of one shape as one batch; None holds no scene."""
    batches = [part for part in parts if part is not None]
    return SceneBatch(
        images=torch.cat([batch.images for batch in batches]),
        extrinsics=torch.cat([batch.extrinsics for batch in batches]),
        intrinsics=torch.cat([batch.intrinsics for batch in batches]),
        depth=torch.cat([batch.depth for batch in batches]),
    )
