"""What cameras do to pictures: exposure, white balance, saturation, a soft lens, JPEG."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

_BLOCK = 8
_LUMINANCE_STEPS = (  # Annex K of the JPEG standard, ITU-T T.81, 1992: table K.1, row by row
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
_TO_YCC = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))  # JFIF


@dataclass(frozen=True)
class Photography:
    """Effects on B scenes of S frames; a scene has one saturation, a frame its own light, focus and
    compression."""

    saturation: Tensor  # [B], 0: grey, 1: as it is
    gain: Tensor  # [B, S, 3]
    blur: Tensor  # [B, S], weight of each neighbour, 0 to 0.25
    coarseness: Tensor  # [B, S], JPEG's quantisation: 0 none, 1 that of quality 50

    @classmethod
    def draw(cls, scenes: int, frames: int, random: torch.Generator) -> Photography:
        def uniform(low: float, high: float, *shape: int) -> Tensor:
            return low + (high - low) * torch.rand(*shape, generator=random)

        exposure, balance = (
            uniform(-0.3, 0.2, scenes, frames, 1),
            uniform(-0.08, 0.08, scenes, frames, 3),
        )
        blurred, compressed = (
            uniform(0, 1, scenes, frames) < 0.4,
            uniform(0, 1, scenes, frames) < 0.5,
        )
        return cls(
            saturation=uniform(0.0, 1.2, scenes),
            gain=torch.exp(exposure + balance),
            blur=torch.where(blurred, uniform(0.0, 0.22, scenes, frames), 0.0),
            coarseness=torch.where(
                compressed, uniform(0.0, 1.0, scenes, frames).square() * 1.5, 0.0
            ),
        )

    def __getitem__(self, scenes: slice) -> Photography:
        return Photography(
            self.saturation[scenes], self.gain[scenes], self.blur[scenes], self.coarseness[scenes]
        )

    def apply(self, images: Tensor) -> Tensor:
        """`images` [B, S, 3, H, W] in [0, 1] as such a camera would store them."""
        saturation, gain, blur, coarseness = (
            value.to(images.device)
            for value in (self.saturation, self.gain, self.blur, self.coarseness)
        )
        grey = images.mean(dim=2, keepdim=True)
        images = grey + saturation.view(-1, 1, 1, 1, 1) * (images - grey)
        images = (images * gain[..., None, None]).clamp(0, 1)
        flat = _soften(images.flatten(0, 1), blur.flatten())
        return compress(flat, coarseness.flatten()).view_as(images)


def _soften(images: Tensor, weight: Tensor) -> Tensor:
    """Each pixel of `images` [N, 3, H, W] mixed with its neighbours, across and down, `weight` [N]
    of each."""
    weight = weight.view(-1, 1, 1, 1)
    padded = F.pad(images, (1, 1, 0, 0), mode="replicate")
    images = images + weight * (padded[..., :-2] + padded[..., 2:] - 2 * images)
    padded = F.pad(images, (0, 0, 1, 1), mode="replicate")
    return images + weight * (padded[..., :-2, :] + padded[..., 2:, :] - 2 * images)


def compress(images: Tensor, coarseness: Tensor) -> Tensor:
    """What JPEG's quantisation leaves of `images` [N, 3, H, W] in [0, 1]; `coarseness` [N] scales
    its table.

    Blocks of 8 x 8 in luminance and chroma, no subsampling; 0 leaves a picture as it is. On any
    device, which a library's encoder is not.
    """
    frames, _, height, width = images.shape
    to_ycc, dct, steps = _tables(images.device)
    padded = F.pad(images, (0, -width % _BLOCK, 0, -height % _BLOCK), mode="replicate")
    ycc = torch.einsum("kc,nchw->nkhw", to_ycc, padded)
    rows, columns = ycc.shape[-2] // _BLOCK, ycc.shape[-1] // _BLOCK
    blocks = ycc.view(frames, 3, rows, _BLOCK, columns, _BLOCK).transpose(3, 4)
    frequencies = dct @ blocks @ dct.mT
    step = steps * coarseness.view(-1, 1, 1, 1, 1, 1).clamp(min=1e-6)
    quantised = (frequencies / step).round() * step
    blocks = dct.mT @ quantised @ dct
    ycc = blocks.transpose(3, 4).reshape_as(ycc)
    rgb = torch.einsum("ck,nkhw->nchw", torch.linalg.inv(to_ycc), ycc)[..., :height, :width].clamp(
        0, 1
    )
    return torch.where(coarseness.view(-1, 1, 1, 1) > 0, rgb, images)


@lru_cache(maxsize=8)
def _tables(device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """RGB to luminance and chroma [3,3], the orthonormal cosine transform [8,8], quantisation steps
    [3,1,1,8,8]."""
    place = torch.arange(_BLOCK, dtype=torch.float64)
    dct = torch.cos(math.pi / _BLOCK * place[:, None] * (place[None] + 0.5)) * math.sqrt(2 / _BLOCK)
    dct[0] /= math.sqrt(2)
    luminance = torch.tensor(_LUMINANCE_STEPS) / 255
    steps = torch.stack([luminance, 1.5 * luminance, 1.5 * luminance])[:, None, None]
    return torch.tensor(_TO_YCC, device=device), dct.float().to(device), steps.to(device)
