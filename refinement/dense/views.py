"""One picture at one size, as matching reads it: grey values, camera, and the ray of each pixel."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from refinement.photograph import Photograph
from refinement.result import RefinedPicture

Floats = NDArray[np.float32]

_NEWTON_STEPS = 12


@dataclass(frozen=True)
class Camera:
    """A SIMPLE_RADIAL camera (`refinement.result`) for a grid of `height` x `width` pixels: a point
    (x, y, 1) of its frame falls on ``(focal_x x (1 + k r2) + cx, focal_y y (1 + k r2) + cy)``.

    The two focal lengths differ by as much as rounding the grid's sides changed its aspect.
    """

    height: int
    width: int
    focal_x: float
    focal_y: float
    cx: float
    cy: float
    distortion: float
    rotation: NDArray[np.float64]  # [3, 3], world to camera
    translation: NDArray[np.float64]  # [3]

    @classmethod
    def of(cls, photograph: Photograph, picture: RefinedPicture, height: int, width: int) -> Camera:
        """The picture's camera on a smaller grid that covers the whole picture."""
        across, down = width / photograph.width, height / photograph.height
        return cls(
            height,
            width,
            picture.focal * across,
            picture.focal * down,
            picture.cx * across,
            picture.cy * down,
            picture.distortion,
            np.asarray(picture.extrinsic[:, :3], np.float64),
            np.asarray(picture.extrinsic[:, 3], np.float64),
        )

    @property
    def centre(self) -> NDArray[np.float64]:
        """Where it stands in the world, [3]."""
        return -self.rotation.T @ self.translation

    @cached_property
    def rays(self) -> tuple[Floats, Floats]:
        """x and y of each pixel's ray (x, y, 1), [height, width] each; a pixel that the model
        reaches with no ray has that of the farthest radius that it does reach."""
        columns = (np.arange(self.width) + 0.5 - self.cx) / self.focal_x
        rows = (np.arange(self.height) + 0.5 - self.cy) / self.focal_y
        x, y = np.meshgrid(columns, rows)
        if self.distortion == 0:
            return x.astype(np.float32), y.astype(np.float32)
        distorted = np.hypot(x, y)
        most = np.inf if self.distortion > 0 else 1 / np.sqrt(-3 * self.distortion)
        radius = np.minimum(distorted, 0.99 * most)
        for _ in range(_NEWTON_STEPS):
            square = self.distortion * radius * radius
            radius -= (radius * (1 + square) - distorted) / (1 + 3 * square)
            radius = np.clip(radius, 0, 0.999 * most)
        scale = radius / np.maximum(distorted, 1e-12)
        return (x * scale).astype(np.float32), (y * scale).astype(np.float32)

    def project(self, points: Floats) -> tuple[Floats, Floats, Floats]:
        """Points of the world, [..., 3], to columns and rows (edges at integers) and depths."""
        local = points @ self.rotation.T.astype(points.dtype) + self.translation.astype(
            points.dtype
        )
        depth = local[..., 2]
        with np.errstate(divide="ignore", invalid="ignore"):
            x, y = local[..., 0] / depth, local[..., 1] / depth
            r2 = self.distortion * (x * x + y * y)
        column, row = self.focal_x * (1 + r2) * x + self.cx, self.focal_y * (1 + r2) * y + self.cy
        return column, row, np.where(3 * r2 > -1, depth, np.nan)


@dataclass(frozen=True)
class View:
    """A picture's grey values [height, width], uint8, and its camera."""

    grey: NDArray[np.uint8]
    camera: Camera

    @cached_property
    def quads(self) -> NDArray[np.uint32]:
        """Each pixel's grey value with those of its right, lower and lower right neighbour, from
        the low byte; at the border the pixel's own stand in."""
        padded = np.pad(self.grey, ((0, 1), (0, 1)), mode="edge").astype(np.uint32)
        return np.ascontiguousarray(
            padded[:-1, :-1] | padded[:-1, 1:] << 8 | padded[1:, :-1] << 16 | padded[1:, 1:] << 24
        )


def grid(photograph: Photograph, pixels: int) -> tuple[int, int]:
    """Height and width of the picture with at most `pixels` on its longer side."""
    scale = min(1.0, pixels / max(photograph.height, photograph.width))
    return max(1, round(photograph.height * scale)), max(1, round(photograph.width * scale))


def load(photograph: Photograph, picture: RefinedPicture, pixels: int) -> View:
    """The picture from its file at that size."""
    height, width = grid(photograph, pixels)
    with Image.open(photograph.path) as file:
        file.draft("L", (width, height))
        grey = file.convert("L")
    return View(_resized(grey, height, width), Camera.of(photograph, picture, height, width))


def smaller(view: View, photograph: Photograph, picture: RefinedPicture, pixels: int) -> View:
    """The same picture at a smaller size."""
    height, width = grid(photograph, pixels)
    if (height, width) == view.grey.shape:
        return view
    camera = Camera.of(photograph, picture, height, width)
    return replace(view, grey=_resized(Image.fromarray(view.grey), height, width), camera=camera)


def _resized(picture: Image.Image, height: int, width: int) -> NDArray[np.uint8]:
    if picture.size != (width, height):
        picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    return np.asarray(picture, np.uint8)
