"""The heads of pi3 and Pi3X: a small transformer each, then what makes numbers of its tokens."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.families.pi3.config import ConvHeadConfig, Pi3Config
from model.network.dpt_head import Conv2d
from model.network.position_maps import view_grid
from model.network.rope import Rotation
from model.network.transformer import Block

NORM_EPS = 1e-6
_CHANNELS_A_GROUP = 32  # of the second norm in a residual unit


class TransformerHead(nn.Module):
    """Tokens `[N, P, 2C]` of frames, each by itself, to `[N, P, out_dim]`."""

    def __init__(self, config: Pi3Config, out_dim: int) -> None:
        super().__init__()
        width = config.head_dim
        self.projects = nn.Linear(2 * config.embed_dim, width)
        self.blocks = nn.ModuleList(
            Block(width, config.head_heads, config.mlp_ratio, None, norm_eps=NORM_EPS)
            for _ in range(config.head_depth)
        )
        self.linear_out = nn.Linear(width, out_dim)

    def forward(self, tokens: Tensor, rope: Rotation) -> Tensor:
        hidden = self.projects(tokens)
        for block in self.blocks:
            hidden = block(hidden, rope)
        return self.linear_out(hidden)


class _ResidualMLP(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.res_conv1 = nn.Linear(dim, dim)
        self.res_conv2 = nn.Linear(dim, dim)
        self.res_conv3 = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        hidden = x
        for layer in (self.res_conv1, self.res_conv2, self.res_conv3):
            hidden = F.relu(layer(hidden))
        return x + hidden


class CameraHead(nn.Module):
    """The camera of a frame, `[N, 3, 4]` camera-to-world, from its patch tokens `[N, h * w, D]`."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.res_conv = nn.ModuleList(_ResidualMLP(dim) for _ in range(2))
        self.more_mlps = nn.Sequential(
            nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim), nn.ReLU()
        )
        self.fc_t = nn.Linear(dim, 3)
        self.fc_rot = nn.Linear(dim, 9)

    def forward(self, patches: Tensor) -> Tensor:
        for unit in self.res_conv:
            patches = unit(patches)
        frame = self.more_mlps(patches.mean(dim=1))
        rotation = nearest_rotation(self.fc_rot(frame).unflatten(-1, (3, 3)))
        return torch.cat((rotation, self.fc_t(frame)[..., None]), dim=-1)


def nearest_rotation(matrix: Tensor) -> Tensor:
    """The rotation `[..., 3, 3]` that is nearest to a matrix whose rows are brought to length 1."""
    left, _, right = torch.linalg.svd(F.normalize(matrix, dim=-1))
    turned = torch.linalg.det(left @ right)
    last = torch.stack((torch.ones_like(turned), torch.ones_like(turned), turned), dim=-1)
    return left * last[..., None, :] @ right


class LinearHead(nn.Module):
    """pi3's: one layer gives all pixels of a patch. Patch tokens `[N, h * w, D]` to `[N, outputs,
    H, W]`."""

    def __init__(self, dim: int, patch_size: int, outputs: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.proj = nn.Linear(dim, outputs * patch_size**2)

    def forward(self, patches: Tensor, image_size: tuple[int, int]) -> Tensor:
        grid = (image_size[0] // self.patch_size, image_size[1] // self.patch_size)
        maps = self.proj(patches).transpose(1, 2).unflatten(2, grid)
        return F.pixel_shuffle(maps, self.patch_size)


def _convolution(inputs: int, outputs: int) -> Conv2d:
    """3x3; beyond its edge a picture goes on as it ends."""
    return Conv2d(inputs, outputs, 3, padding=1, padding_mode="replicate")


class _ResidualUnit(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = 2 * width
        self.layers = nn.Sequential(
            nn.GroupNorm(1, width),
            nn.ReLU(),
            _convolution(width, hidden),
            nn.GroupNorm(hidden // _CHANNELS_A_GROUP or 1, hidden),
            nn.ReLU(),
            _convolution(hidden, width),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class ConvHead(nn.Module):
    """Pi3X's, after MoGe (Wang et al., 2025): the patch grid is doubled a few times and told at
    every size where on the picture it is.

    Patch tokens `[N, h * w, D]` to one map `[N, outputs, H, W]` for each of `outputs`, joined.
    """

    def __init__(
        self, dim: int, patch_size: int, outputs: tuple[int, ...], config: ConvHeadConfig
    ) -> None:
        super().__init__()
        self.patch_size = patch_size
        stages = []
        for width in config.widths:
            larger = nn.Sequential(
                nn.ConvTranspose2d(dim + 2, width, 2, stride=2), _convolution(width, width)
            )
            units = [_ResidualUnit(width) for _ in range(config.residual_units)]
            stages.append(nn.Sequential(larger, *units))
            dim = width
        self.upsample_blocks = nn.ModuleList(stages)
        self.output_block = nn.ModuleList(
            nn.Sequential(
                _convolution(dim + 2, config.last_width),
                nn.ReLU(),
                Conv2d(config.last_width, count, 1),
            )
            for count in outputs
        )

    def forward(self, patches: Tensor, image_size: tuple[int, int]) -> Tensor:
        height, width = image_size
        grid = (height // self.patch_size, width // self.patch_size)
        maps = patches.transpose(1, 2).unflatten(2, grid)
        for stage in self.upsample_blocks:
            maps = stage(_with_places(maps, width / height))
        maps = F.interpolate(maps, size=image_size, mode="bilinear", align_corners=False)
        maps = _with_places(maps, width / height)
        return torch.cat([output(maps) for output in self.output_block], dim=1)


def _with_places(maps: Tensor, aspect: float) -> Tensor:
    """Maps `[N, C, h, w]` of a picture of this aspect (W / H) with the places of their pixels."""
    height, width = maps.shape[-2:]
    places = view_grid(width, height, aspect, maps.device).to(maps.dtype).permute(2, 0, 1)
    return torch.cat((maps, places.expand(len(maps), -1, -1, -1)), dim=1)
