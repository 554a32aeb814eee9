"""From picture files to the network's pixel grid, and the way back to each picture's own grid.

Coordinates are continuous: pixel i covers [i, i + 1), so its centre lies at i + 0.5 and the image
centre at width / 2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from model.errors import ImageError
from model.scene import resizing
from model.scene.pictures import Source, open_image
from model.scene.resizing import Placed

MODES = ("fit", "crop", "pad", "public")
"""The last one stands for what the public code of a network does."""
_BLOCK_ROWS = 64

Kept = Callable[[], NDArray[np.uint8]]
"""Brings back the pixels `[rows, columns, 3]` of a picture that were put away."""


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

    def intrinsics_to_network(self, intrinsics: Tensor) -> Tensor:
        """The inverse of `intrinsics_to_original`."""
        (sx, sy), (ox, oy) = self.scale, self.offset
        return intrinsics.new_tensor([[sx, 0, ox], [0, sy, oy], [0, 0, 1]]) @ intrinsics

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
    fitted = fit_images(sources, mode, image_size, patch_size, public)
    images = [torch.from_numpy(frame).permute(2, 0, 1).float() / 255 for frame in fitted.frames()]
    return PreprocessedImages(torch.stack(images), fitted.transforms)


def fit_images(
    sources: Sequence[Source],
    mode: str,
    image_size: int,
    patch_size: int,
    public: str = "crop",
    keep: Callable[[NDArray[np.uint8]], Kept] = lambda pixels: lambda: pixels,
) -> FittedImages:
    """As `preprocess_images`, for more pictures than fit into memory: 8-bit frames, given one after
    another. `keep` puts the pixels of one picture away, by default nowhere, and returns what brings
    them back."""
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
    kept: list[Kept] = []
    sizes: list[tuple[int, int]] = []
    known = []
    for index, source in enumerate(sources):
        picture = open_image(source, index, mode != "fit")
        if mode in resizing.MODES:
            _check_shape(picture, image_size, patch_size, index)
            first = sizes[0] if sizes else None
            each = resizing.place(picture, mode, image_size, patch_size, first)
        else:
            each = _place(picture, mode, image_size, patch_size, index)
        kept.append(keep(each.pixels))
        sizes.append(each.size)
        known.append((each.original_size, each.scale, each.cut))

    # those of other networks' public code are cut to the smallest, all others padded to the largest
    bound = min if mode in resizing.MODES else max
    height, width = (bound(size[axis] for size in sizes) for axis in (0, 1))
    if mode == "pad":
        height = width = image_size
    transforms = []
    for (rows, columns), (original, scale, cut) in zip(sizes, known, strict=True):
        offset = (_margin(columns, width) - cut[0], _margin(rows, height) - cut[1])
        transforms.append(
            ImageTransform(original, (height, width), scale, (float(offset[0]), float(offset[1])))
        )
    return FittedImages((height, width), tuple(transforms), tuple(kept))


def _margin(had: int, wanted: int) -> int:
    """How far to the left, or above, a centred length is padded; negative: cut."""
    return (wanted - had) // 2 if wanted >= had else -((had - wanted) // 2)


@dataclass(frozen=True)
class FittedImages:
    """Pictures of one grid of `size` (height, width), with one transform each; `kept` brings back
    the pixels of each, which may be larger or smaller."""

    size: tuple[int, int]
    transforms: tuple[ImageTransform, ...]
    kept: tuple[Kept, ...]

    def frames(self) -> Iterator[NDArray[np.uint8]]:
        """The pictures `[H, W, 3]` in their order, cut or padded with white around the middle."""
        for read in self.kept:
            pixels = read()
            inner, outer = [], []
            for had, wanted in zip(pixels.shape[:2], self.size, strict=True):
                before = abs(_margin(had, wanted))
                part, whole = slice(before, before + min(had, wanted)), slice(None)
                outer.append(part if had <= wanted else whole)
                inner.append(whole if had <= wanted else part)
            frame = np.full((*self.size, 3), 255, np.uint8)
            frame[tuple(outer)] = pixels[tuple(inner)]
            yield frame


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
