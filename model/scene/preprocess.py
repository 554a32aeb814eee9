"""From picture files to the network's pixel grid, and the way back to each picture's own grid.

Coordinates are continuous: pixel i covers [i, i + 1), so its centre lies at i + 0.5 and the image
centre at width / 2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from model.errors import ImageError
from model.scene import resizing
from model.scene.pictures import Source, open_image
from model.scene.resizing import Placed

MODES = ("fit", "crop", "pad", "public")
"""The last one stands for what the public code of a network does."""
_BLOCK_ROWS = 64


@dataclass(frozen=True)
class ImageTransform:
    """How one picture lies on the network grid: `x_network = scale_x * x_original + offset_x`,
    likewise y.

    Sizes are (height, width), scale and offset are (x, y). The original grid is the upright one,
    after EXIF rotation.
    """

    original_size: tuple[int, int]
    network_size: tuple[int, int]
    scale: tuple[float, float]
    offset: tuple[float, float]

    def intrinsics_to_original(self, intrinsics: Tensor) -> Tensor:
        """Intrinsics `[..., 3, 3]` of the network grid expressed in pixels of the original
        picture."""
        (sx, sy), (ox, oy) = self.scale, self.offset
        back = intrinsics.new_tensor([[1 / sx, 0, -ox / sx], [0, 1 / sy, -oy / sy], [0, 0, 1]])
        return back @ intrinsics

    def to_network(self, points: Tensor) -> Tensor:
        """Places `[..., 2]` (x, y) of the original picture as the network counts them: pixel
        centres from 0."""
        return points * points.new_tensor(self.scale) + (points.new_tensor(self.offset) - 0.5)

    def to_original(self, points: Tensor) -> Tensor:
        """The inverse of `to_network`."""
        return (points + (0.5 - points.new_tensor(self.offset))) / points.new_tensor(self.scale)

    def sees(self, points: Tensor) -> Tensor:
        """Whether the network sees these places `[..., 2]` (x, y) of the original picture: bool
        `[...]`."""
        place = points * points.new_tensor(self.scale) + points.new_tensor(self.offset)
        end = points.new_tensor(self.network_size[::-1])
        return ((place >= 0) & (place <= end)).all(-1)

    def map_to_original(self, values: Tensor) -> Tensor:
        """Resamples a map `[H, W]` of the network grid bilinearly onto the original grid `[h, w]`.

        Pixels that the network did not see (cropped away) are NaN. Padding is never blended in.
        """
        x, sees_x = self._positions(1)
        y, sees_y = self._positions(0)
        rows, columns = self.network_size
        source = values.double()[None, None]
        result = torch.empty(self.original_size)
        for first in range(0, len(y), _BLOCK_ROWS):  # else it would take 60 bytes a pixel
            block = slice(first, first + _BLOCK_ROWS)
            grid = torch.stack(
                torch.meshgrid(2 * x / columns - 1, 2 * y[block] / rows - 1, indexing="xy"), dim=-1
            )
            sampled = F.grid_sample(source, grid[None], mode="bilinear", align_corners=False)[0, 0]
            seen = sees_y[block, None] & sees_x[None]
            result[block] = torch.where(seen, sampled.float(), torch.nan)
        return result

    def _positions(self, axis: int) -> tuple[Tensor, Tensor]:
        """Where the original pixels of an axis (0: y, 1: x) lie on the network grid, and whether it
        saw them."""
        original, network = self.original_size[axis], self.network_size[axis]
        scale, offset = self.scale[1 - axis], self.offset[1 - axis]
        position = (torch.arange(original, dtype=torch.float64) + 0.5) * scale + offset
        seen = (position >= 0) & (position <= network)
        # from the centre of the first content pixel to that of the last
        first, last = max(0.0, offset) + 0.5, min(float(network), offset + scale * original) - 0.5
        return position.clamp(first, last), seen

    def content_mask(self) -> Tensor:
        """Which network pixels `[H, W]` have their centre inside the picture (False on padding)."""
        (height, width), (rows, columns) = self.original_size, self.network_size
        x = (torch.arange(columns) + 0.5 - self.offset[0]) / self.scale[0]
        y = (torch.arange(rows) + 0.5 - self.offset[1]) / self.scale[1]
        return ((x >= 0) & (x <= width))[None] & ((y >= 0) & (y <= height))[:, None]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "original_size": {"height": self.original_size[0], "width": self.original_size[1]},
            "network_size": {"height": self.network_size[0], "width": self.network_size[1]},
            "scale": {"x": self.scale[0], "y": self.scale[1]},
            "offset": {"x": self.offset[0], "y": self.offset[1]},
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ImageTransform:
        """The inverse of `to_dict`."""
        original, network = data["original_size"], data["network_size"]
        return cls(
            original_size=(original["height"], original["width"]),
            network_size=(network["height"], network["width"]),
            scale=(data["scale"]["x"], data["scale"]["y"]),
            offset=(data["offset"]["x"], data["offset"]["y"]),
        )


@dataclass(frozen=True)
class PreprocessedImages:
    """Network input `[N, 3, H, W]`, float32 in [0, 1], and one transform per picture."""

    images: Tensor
    transforms: tuple[ImageTransform, ...]


def preprocess_images(
    sources: Sequence[Source], mode: str, image_size: int, patch_size: int, public: str = "crop"
) -> PreprocessedImages:
    """Brings pictures onto one grid whose sides are multiples of `patch_size`.

    - "fit": the longer side becomes `image_size`; nothing is cut off and nothing is padded.
    - "crop": the width becomes `image_size`, rows beyond `image_size` are cut off evenly
      (VGGT's public default).
    - "pad": as "fit", then padded with white to a square.
    - "public": what the network's public code does, `public`: "crop" or one of
      `resizing.MODES`.

    "crop" and "pad" reproduce the public preprocessing bit for bit (Pillow's bicubic, Python's
    round half to even) for 8-bit files: of transparency that code knows RGBA only, and takes
    palettes as opaque; grey and RGB with transparency are given over white in every mode. Pictures
    that end up with different sizes are padded with white, centred, to the largest height and
    width. Raises ValueError for an unknown mode and ImageError for a picture that cannot be used.
    """
    if mode not in MODES:
        raise ValueError(f"preprocessing mode is {mode!r}; expected one of {', '.join(MODES)}")
    if mode == "public":
        mode = public
    if not sources:
        raise ImageError("no pictures were given; at least one is needed")
    if image_size % patch_size:
        raise ValueError(
            f"image size {image_size} is not a multiple of the patch size {patch_size}"
        )
    placed: list[Placed] = []
    for index, source in enumerate(sources):
        picture = open_image(source, index, mode != "fit")
        if mode in resizing.MODES:
            _check_shape(picture, image_size, patch_size, index)
            first = placed[0].size if placed else None
            placed.append(resizing.place(picture, mode, image_size, patch_size, first))
        else:
            placed.append(_place(picture, mode, image_size, patch_size, index))
    if mode in resizing.MODES:
        placed = resizing.cut_to_smallest(placed)

    height = max(each.size[0] for each in placed)
    width = max(each.size[1] for each in placed)
    if mode == "pad":
        height = width = image_size
    images, transforms = [], []
    for each in placed:
        rows, columns = each.size
        top, left = (height - rows) // 2, (width - columns) // 2
        tensor = torch.from_numpy(each.pixels).permute(2, 0, 1).float() / 255
        images.append(
            F.pad(tensor, (left, width - columns - left, top, height - rows - top), value=1.0)
        )
        offset = (float(left - each.cut[0]), float(top - each.cut[1]))
        transforms.append(ImageTransform(each.original_size, (height, width), each.scale, offset))
    return PreprocessedImages(torch.stack(images), tuple(transforms))


def _place(picture: Image.Image, mode: str, image_size: int, patch_size: int, index: int) -> Placed:
    width, height = picture.size
    if mode == "crop" or width >= height:
        new_width = image_size
        new_height = round(height * (image_size / width) / patch_size) * patch_size
    else:
        new_height = image_size
        new_width = round(width * (image_size / height) / patch_size) * patch_size
    if not (new_width and new_height):
        raise _too_thin(picture, image_size, patch_size, index)
    _check_shape(picture, image_size, patch_size, index)
    pixels = np.array(picture.resize((new_width, new_height), Image.Resampling.BICUBIC))
    rows_cut = max(0, (new_height - image_size) // 2) if mode == "crop" else 0
    if rows_cut:
        pixels = pixels[rows_cut : rows_cut + image_size]
    return Placed(pixels, (height, width), (new_width / width, new_height / height), (0, rows_cut))


def _check_shape(picture: Image.Image, image_size: int, patch_size: int, index: int) -> None:
    if max(picture.size) > _longest(image_size, patch_size) * min(picture.size):
        raise _too_thin(picture, image_size, patch_size, index)


def _longest(image_size: int, patch_size: int) -> int:
    """How often the shorter side may lie in the longer one; beyond this it is less than half a
    patch."""
    return 2 * image_size // patch_size


def _too_thin(picture: Image.Image, image_size: int, patch_size: int, index: int) -> ImageError:
    width, height = picture.size
    return ImageError(
        f"picture {index} is {width}x{height} pixels: too long and thin for patches of "
        f"{patch_size} pixels at an "
        f"image size of {image_size}; its sides may differ by a factor of at most "
        f"{_longest(image_size, patch_size)}",
        index,
    )
