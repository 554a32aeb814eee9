"""Block reconstruction: smoothing and clips learned so that a simulated block gives the float
block's output.

As in the published code of QuantVGGT: one channel scale, two clips a weight row and two clips an
input for each layer; AdamW, a cosine over all steps, one multi-frame sample a step,
straight-through rounding.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kernels.formats import NumberFormat, largest_code
from kernels.reference import rotate
from quantization.layer import Transform

SCALE_RATE, CLIP_RATE, FINAL_RATE = 1e-3, 1e-2, 1e-6
_CLIP_START = 4.0  # sigmoid(4) = 0.982 of the range
_SMALLEST = 1e-5

Run = Callable[[nn.Module, int], Tensor]
"""A block's output on the sample with this index."""


class SimulatedLinear(nn.Module):
    """A float linear layer that rounds as the quantised one will, with gradients for scale and
    clips."""

    def __init__(
        self, layer: nn.Linear, scheme: NumberFormat, signs: Tensor | None, smoothing: Tensor
    ) -> None:
        super().__init__()
        self.scheme, self.signs = scheme, signs
        weight = layer.weight.detach().double()
        self.turned = (weight if signs is None else rotate(weight, signs)).float()
        self.bias = None if layer.bias is None else layer.bias.detach()
        self.smoothing = nn.Parameter(smoothing.clone())
        self.weight_clip = nn.Parameter(weight.new_full((len(weight), 2), _CLIP_START).float())
        self.activation_clip = nn.Parameter(weight.new_full((2,), _CLIP_START).float())

    def forward(self, x: Tensor) -> Tensor:
        smoothing = self.smoothing.clamp(min=_SMALLEST)
        turned = x if self.signs is None else rotate(x, self.signs)
        seen = turned / smoothing
        if self.scheme.rounds_activations:
            seen = self._rounded_input(seen)
        return F.linear(seen, self._rounded_weight(smoothing), self.bias)

    def learned(self) -> Transform:
        """What was learned, as a layer stores it."""
        return Transform(
            self.smoothing.detach().clamp(min=_SMALLEST),
            self.weight_clip.detach().sigmoid().double(),
            self.activation_clip.detach().sigmoid(),
        )

    def _rounded_input(self, x: Tensor) -> Tensor:
        clip = self.activation_clip.sigmoid()
        lowest, highest = (
            x.amin(dim=-1, keepdim=True).abs() * clip[0],
            x.amax(dim=-1, keepdim=True) * clip[1],
        )
        return _round(x, torch.maximum(lowest, highest), self.scheme.activation_bits)

    def _rounded_weight(self, smoothing: Tensor) -> Tensor:
        weight = self.turned * smoothing
        clip = self.weight_clip.sigmoid()
        low = weight.amin(dim=1, keepdim=True) * clip[:, :1]
        high = weight.amax(dim=1, keepdim=True) * clip[:, 1:]
        weight = torch.minimum(torch.maximum(weight, low), high)
        return _round(
            weight,
            torch.maximum(low.clamp(max=0).abs(), high.clamp(min=0)),
            self.scheme.weight_bits,
        )


def _round(values: Tensor, extreme: Tensor, bits: int) -> Tensor:
    """Values on the grid whose largest code stands for `extreme`; gradients pass the rounding as if
    it were not."""
    top = largest_code(bits)
    scale = (extreme / top).clamp(min=1e-8)
    steps = values / scale
    steps = steps + (steps.round() - steps).detach()
    return steps.clamp(-top - 1, top) * scale


def learn_block(
    block: nn.Module,
    layers: Mapping[str, tuple[NumberFormat, Tensor | None, Tensor]],
    targets: Sequence[Tensor],
    run: Run,
    epochs: int,
) -> dict[str, Transform]:
    """Learns the transforms of `layers` (by name in `block`: scheme, signs, first smoothing) over
    `epochs`.

    `targets` are the float block's outputs, one a sample.
    """
    copied = copy.deepcopy(block).requires_grad_(False)
    simulated = {}
    for name, (scheme, signs, smoothing) in layers.items():
        layer = copied.get_submodule(name)
        assert isinstance(layer, nn.Linear)
        simulated[name] = SimulatedLinear(layer, scheme, signs, smoothing)
        copied.set_submodule(name, simulated[name])
    scales = [module.smoothing for module in simulated.values()]
    clips = [
        clip
        for module in simulated.values()
        for clip in (module.weight_clip, module.activation_clip)
    ]
    optimiser = torch.optim.AdamW(
        [{"params": scales, "lr": SCALE_RATE}, {"params": clips, "lr": CLIP_RATE}]
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
        optimiser, epochs * len(targets), eta_min=FINAL_RATE
    )
    with torch.enable_grad():
        for _ in range(epochs):
            for sample, target in enumerate(targets):
                loss = F.mse_loss(run(copied, sample), target)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                schedule.step()
    return {name: module.learned() for name, module in simulated.items()}
