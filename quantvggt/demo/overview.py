"""One picture that shows a whole reconstruction: the pictures, their depth, and the cloud with its
cameras from where no picture was taken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from model.scene.similarity import camera_centres

Array = NDArray[np.float64]

_BACKGROUND = (255, 255, 255)
_PREDICTED = (214, 60, 40)
_TRUE = (30, 110, 60)
_WIDTH = 1600
_GAP = 8
_MOST_VIEWS, _HIGHEST = 8, 300
_PANEL = (_WIDTH, 860)
_FINER = 2  # the panel is drawn this much larger, then made smaller
_FIELD_OF_VIEW = np.radians(42)
_ASIDE, _ABOVE = np.radians(-14), np.radians(16)
_CELL, _LARGEST_SPLAT, _MOST_POINTS = 16, 7, 4_000_000


@dataclass(frozen=True)
class View:
    """One picture of the scene and its depth map as a picture, of the same shape."""

    picture: Image.Image
    depth: Image.Image


def draw_overview(
    views: Sequence[View],
    points: NDArray[np.floating],
    colors: NDArray[np.uint8],
    predicted: Array,
    true: Array | None = None,
) -> Image.Image:
    """A row of pictures, at most eight, a row of their depths, and below them the points [N,3] with
    colours [N,3] from a new viewpoint.

    `predicted` (red) and `true` (green) are world-to-camera extrinsics [S,3,4] in the world of the
    points.
    """
    count = min(len(views), _MOST_VIEWS)
    shown = [views[i * len(views) // count] for i in range(count)]
    cell = (_WIDTH + _GAP) // count - _GAP
    sizes = [_fitted(view.picture.size, (cell, _HIGHEST)) for view in shown]
    height = max(size[1] for size in sizes)
    canvas = Image.new("RGB", (_WIDTH, 2 * (height + _GAP) + _PANEL[1]), _BACKGROUND)
    for index, (view, size) in enumerate(zip(shown, sizes, strict=True)):
        left = index * (cell + _GAP) + (cell - size[0]) // 2
        for row, picture in enumerate((view.picture, view.depth)):
            small = picture.convert("RGB").resize(size, Image.Resampling.LANCZOS)
            canvas.paste(small, (left, row * (height + _GAP)))
    cameras = [(predicted, _PREDICTED)] + ([] if true is None else [(true, _TRUE)])
    canvas.paste(_panel(points, colors, cameras), (0, 2 * (height + _GAP)))
    return canvas


def _fitted(size: tuple[int, int], room: tuple[int, int]) -> tuple[int, int]:
    """The largest size of this shape that the room holds."""
    share = min(room[0] / size[0], room[1] / size[1])
    return max(1, round(size[0] * share)), max(1, round(size[1] * share))


@dataclass(frozen=True)
class _Eye:
    """A pinhole camera: world-to-camera [R|t], focal length and principal point in pixels."""

    extrinsic: Array
    focal: float
    middle: Array

    def project(self, points: NDArray[np.floating]) -> tuple[Array, Array]:
        """Pixels [N,2] and depths [N]; what lies behind the eye has a depth of 0 or less."""
        local = points @ self.extrinsic[:, :3].T + self.extrinsic[:, 3]
        depth = local[:, 2]
        safe = np.where(depth > 1e-9, depth, 1.0)[:, None]
        return self.focal * local[:, :2] / safe + self.middle, depth


def _panel(
    points: NDArray[np.floating],
    colors: NDArray[np.uint8],
    cameras: Sequence[tuple[Array, tuple[int, int, int]]],
) -> Image.Image:
    size = (_PANEL[0] * _FINER, _PANEL[1] * _FINER)
    step = max(1, -(-len(points) // _MOST_POINTS))
    shown, colors = points[::step].astype(np.float64), colors[::step]
    centres = np.concatenate([_centres(extrinsics) for extrinsics, _ in cameras])
    eye = _new_viewpoint(shown, cameras[0][0], centres, size)
    image = Image.fromarray(_splatted(shown, colors, eye, size))
    draw = ImageDraw.Draw(image)
    reach = float(np.linalg.norm(_focus(shown, cameras[0][0]) - centres.mean(axis=0)))
    for extrinsics, color in cameras:
        for corners in _frusta(extrinsics, 0.07 * reach):
            pixels, depth = eye.project(corners)
            if (depth <= 0).any():
                continue
            tip, *base = (tuple(pixel) for pixel in pixels)
            for i, corner in enumerate(base):
                draw.line([tip, corner], color, 2 * _FINER)
                draw.line([corner, base[(i + 1) % 4]], color, 2 * _FINER)
    return image.resize(_PANEL, Image.Resampling.LANCZOS)


def _focus(points: Array, predicted: Array) -> Array:
    """What the cameras look at: the middle of the points, or a little in front without any."""
    if len(points):
        middle: Array = np.median(points, axis=0)
        return middle
    centres = _centres(predicted)
    spread = max(float(np.linalg.norm(np.ptp(centres, axis=0))), 1e-3)
    ahead: Array = centres.mean(axis=0) + predicted[:, 2, :3].mean(axis=0) * spread
    return ahead


def _new_viewpoint(points: Array, predicted: Array, centres: Array, size: tuple[int, int]) -> _Eye:
    """Behind the cameras, higher and to the side, as far as it takes to see nearly all points and
    the cameras."""
    focus = _focus(points, predicted)
    up = -predicted[:, 1, :3].mean(axis=0)
    up /= np.linalg.norm(up)
    back = centres.mean(axis=0) - focus
    if np.linalg.norm(np.cross(back, up)) < 1e-9:
        back = back - predicted[:, 2, :3].mean(axis=0) + 1e-3
    level = back - up * (back @ up)
    level /= np.linalg.norm(level)
    side = np.cross(up, level)
    rise = np.clip(np.arctan2(back @ up, back @ np.cross(side, up)) + _ABOVE, -1.2, 1.2)
    level = np.cos(_ASIDE) * level + np.sin(_ASIDE) * side
    forward = -(np.cos(rise) * level + np.sin(rise) * up)
    right = np.cross(forward, up)
    right /= np.linalg.norm(right)
    rotation = np.stack([right, np.cross(forward, right), forward])
    focal = size[0] / 2 / np.tan(_FIELD_OF_VIEW / 2)
    # strays must not shrink the scene to a dot: the frame holds nearly all points
    sample = points[:: max(1, len(points) // 50_000)]
    distance = max(float(np.linalg.norm(back)), 1e-6) * 0.5
    while True:
        shift = -rotation @ (focus - distance * forward)
        eye = _Eye(np.column_stack([rotation, shift]), focal, np.array(size) / 2)
        pixels, depth = eye.project(sample)
        around, before = eye.project(centres)
        low, high = around.min(axis=0), around.max(axis=0)
        if len(sample):
            low = np.minimum(low, np.percentile(pixels, 2, axis=0))
            high = np.maximum(high, np.percentile(pixels, 98, axis=0))
        in_front = before.min() > 0 and (not len(sample) or np.percentile(depth, 1) > 0)
        if in_front and ((high - low) <= 0.96 * np.array(size)).all():
            return _Eye(eye.extrinsic, focal, np.array(size) - (low + high) / 2)
        distance *= 1.06


def _splatted(
    points: Array, colors: NDArray[np.uint8], eye: _Eye, size: tuple[int, int]
) -> NDArray[np.uint8]:
    """The points as squares that grow where points lie far apart; the nearest ones of a pixel are
    blended."""
    width, height = size
    pixels, depth = eye.project(points)
    with np.errstate(invalid="ignore"):
        inside = (depth > 1e-6) & (pixels >= 0).all(axis=1) & (pixels < [width, height]).all(axis=1)
    image = np.full((height * width, 3), _BACKGROUND, np.float64)
    if not inside.any():
        return image.reshape(height, width, 3).astype(np.uint8)
    x, y = pixels[inside].astype(np.int64).T
    depth, colors = depth[inside], colors[inside]
    side = _splat_sides(x, y, size)
    at, of = [], []
    for shift_y in range(int(side.max())):
        for shift_x in range(int(side.max())):
            large = np.flatnonzero(side > max(shift_x, shift_y))
            column = np.clip(x[large] + shift_x - side[large] // 2, 0, width - 1)
            row = np.clip(y[large] + shift_y - side[large] // 2, 0, height - 1)
            at.append(row * width + column)
            of.append(large)
    pixel, index = np.concatenate(at), np.concatenate(of)
    nearest = np.full(height * width, np.inf)
    np.minimum.at(nearest, pixel, depth[index])
    front = depth[index] <= nearest[pixel] * 1.01
    pixel, index = pixel[front], index[front]
    weight = np.bincount(pixel, minlength=height * width)
    hit = weight > 0
    for channel in range(3):
        total = np.bincount(pixel, colors[index, channel], minlength=height * width)
        image[hit, channel] = total[hit] / weight[hit]
    return np.rint(image).reshape(height, width, 3).astype(np.uint8)


def _splat_sides(
    x: NDArray[np.int64], y: NDArray[np.int64], size: tuple[int, int]
) -> NDArray[np.int64]:
    """How many pixels wide the square of each point is, from how many points lie around it."""
    columns, rows = -(-size[0] // _CELL), -(-size[1] // _CELL)
    cell = y // _CELL * columns + x // _CELL
    counts = np.bincount(cell, minlength=rows * columns).astype(np.float64)
    apart = np.sqrt(_CELL**2 / np.maximum(counts, 1))
    return np.clip(np.ceil(1.6 * apart[cell]), 2, _LARGEST_SPLAT).astype(np.int64)


def _frusta(extrinsics: Array, size: float) -> list[Array]:
    """Per camera five world points: its centre and the corners of a small picture in front of
    it."""
    corners = size * np.array(
        [[0, 0, 0], [-0.6, -0.45, 1], [0.6, -0.45, 1], [0.6, 0.45, 1], [-0.6, 0.45, 1]]
    )
    centres = _centres(extrinsics)
    return [
        corners @ camera[:, :3] + centre for camera, centre in zip(extrinsics, centres, strict=True)
    ]


def _centres(extrinsics: Array) -> Array:
    return camera_centres(torch.from_numpy(extrinsics)).numpy()
