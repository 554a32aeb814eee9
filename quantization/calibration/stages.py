"""A network that is quantised stage by stage, so that no more than one of them need be in memory in
float.

Which stages there are, and how tokens get from one to the next, the network's family says
(`model.families.family.Stages`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from kernels import NumberFormat
from model import families
from model.files.checkpoint import assign, build_empty
from model.network.attention import Attention
from model.network.config import NetworkConfig
from model.network.network import Stage
from quantization.recipe import Recipe

Read = Callable[[str], Tensor]
"""A tensor of the float checkpoint by name."""


class Walk:
    """A network that is filled from a checkpoint stage by stage, and how its stages are run on
    samples.

    `images`: one `[S, 3, H, W]` in [0, 1] a sample.
    """

    def __init__(
        self,
        config: NetworkConfig,
        read: Read,
        images: Sequence[Tensor],
        device: str | torch.device = "cpu",
    ) -> None:
        self.family = families.of(config)
        self.net = build_empty(config)
        self.images = images
        self.device = torch.device(device)
        self._read = read
        self.steps = self.family.stages(self.net)
        self.stages = list(self.steps.row)
        self.fill(self.steps.shared())

    def fill(self, names: Sequence[str]) -> None:
        """Reads these parameters of the network, float32."""
        for name in names:
            assign(self.net, name, self._read(name), self.device)

    def fill_stage(self, stage: Stage) -> nn.Module:
        """Reads all parameters of a stage and returns its module."""
        module = self.net.get_submodule(stage.name)
        self.fill([name for name, _ in module.named_parameters(prefix=stage.name)])
        return module

    def linears(self, stage: Stage) -> list[str]:
        """Names, within the stage, of the layers that can be quantised, in the order in which they
        run."""
        module = self.net.get_submodule(stage.name)
        return [
            name
            for name, _ in module.named_modules()
            if self.family.part_of(f"{stage.name}.{name}") is not None
        ]

    def schemes(self, stage: Stage, recipe: Recipe) -> dict[str, NumberFormat]:
        """Those of `linears` that the recipe quantises, and how."""
        found = {
            name: recipe.scheme(self.family, f"{stage.name}.{name}") for name in self.linears(stage)
        }
        return {name: scheme for name, scheme in found.items() if scheme is not None}

    def run(
        self, stage: Stage, module: nn.Module, tokens: Tensor, sample: int, attention: str = "float"
    ) -> Tensor:
        """`module`, which stands for that of `stage`, on one sample. Attention in a head is always
        float."""
        for part in module.modules() if stage.kind != "head" else ():
            if isinstance(part, Attention):
                part.arithmetic = attention
        return self.steps.run(stage, module, tokens, self.images[sample])


class Stream:
    """The tokens of all samples, carried through one version of the network: the float one or the
    quantised one.

    `attention` is the arithmetic of that version's.
    """

    @torch.no_grad()
    def __init__(self, walk: Walk, attention: str = "float") -> None:
        self.walk = walk
        self.attention = attention
        self.tokens = [walk.steps.begin(images.to(walk.device)) for images in walk.images]
        self._kept: list[dict[str, Tensor]] = [{} for _ in walk.images]

    @torch.no_grad()
    def enter(self, stage: Stage) -> None:
        """Brings the tokens into the form that `stage` takes."""
        for i, images in enumerate(self.walk.images):
            self.tokens[i] = self.walk.steps.enter(stage, self.tokens[i], images, self._kept[i])

    @torch.no_grad()
    def advance(self, stage: Stage, module: nn.Module) -> None:
        """Runs `module`, which stands for that of `stage`, on every sample, in place."""
        for i, images in enumerate(self.walk.images):
            self.tokens[i] = self.walk.run(stage, module, self.tokens[i], i, self.attention)
            self.walk.steps.leave(stage, self.tokens[i], images, self._kept[i])

    def features(self, sample: int) -> Tensor:
        """What the last blocks have made of a sample, once it has passed them; see
        `Stages.features`."""
        return self.walk.steps.features(self._kept[sample])
