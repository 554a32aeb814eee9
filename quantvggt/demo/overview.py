"""One picture that shows a whole reconstruction: every view with its depth, and the cloud with its
cameras."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from model.scene.similarity import camera_centres

Array = NDArray[np.float64]

_BACKGROUND = (250, 250, 250)
_INK = (40, 40, 40)
_PREDICTED = (214, 60, 40)
_TRUE = (30, 110, 60)
_GAP = 12
_LABEL = 20
_ROW = 170
_PANEL = 640

# World axes to (right, up, toward the viewer) of each panel; OpenCV's y points down, z forward.
_TOP = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
_TURN, _TILT = np.radians(-30.0), np.radians(35.0)
_OBLIQUE = np.array(
    [
        [np.cos(_TURN), 0.0, np.sin(_TURN)],
        [-np.sin(_TURN) * np.sin(_TILT), -np.cos(_TILT), np.cos(_TURN) * np.sin(_TILT)],
        [np.sin(_TURN) * np.cos(_TILT), -np.sin(_TILT), -np.cos(_TURN) * np.cos(_TILT)],
    ]
)


@dataclass(frozen=True)
class View:
    """One picture of the scene and its depth map as a picture, on the same pixel grid."""

    picture: Image.Image
    depth: Image.Image


def draw_overview(
    views: Sequence[View],
    points: NDArray[np.floating],
    colors: NDArray[np.uint8],
    predicted: Array,
    true: Array | None = None,
) -> Image.Image:
    """Rows of picture and depth on the left; the points [N,3] with colours [N,3] from above and
    askew on the right.

    `predicted` and `true` are world-to-camera extrinsics [S,3,4] in the world of the points.
    """
    rows = [(_fit(view.picture), _fit(view.depth)) for view in views]
    column = max(picture.width for row in rows for picture in row)
    left = 2 * column + 3 * _GAP
    height = 2 * _GAP + _LABEL + max(len(rows) * (_ROW + _GAP) - _GAP, _PANEL)
    canvas = Image.new("RGB", (left + 2 * (_PANEL + _GAP), height), _BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(size=14)

    draw.text((_GAP, _GAP), "picture", _INK, font)
    draw.text((2 * _GAP + column, _GAP), "depth (near is bright)", _INK, font)
    for index, row in enumerate(rows):
        top = _GAP + _LABEL + index * (_ROW + _GAP)
        for place, picture in enumerate(row):
            canvas.paste(picture, (_GAP + place * (column + _GAP), top))
    for index, (title, axes) in enumerate((("from above", _TOP), ("oblique", _OBLIQUE))):
        start = left + index * (_PANEL + _GAP)
        draw.text((start, _GAP), title, _INK, font)
        draw.text((start + 110, _GAP), "predicted cameras", _PREDICTED, font)
        if true is not None:
            draw.text((start + 260, _GAP), "known cameras, aligned", _TRUE, font)
        canvas.paste(_panel(points, colors, predicted, true, axes), (start, _GAP + _LABEL))
    return canvas


def _fit(picture: Image.Image) -> Image.Image:
    width = max(1, round(picture.width * _ROW / picture.height))
    return picture.convert("RGB").resize((width, _ROW), Image.Resampling.LANCZOS)


def _panel(
    points: NDArray[np.floating],
    colors: NDArray[np.uint8],
    predicted: Array,
    true: Array | None,
    axes: Array,
) -> Image.Image:
    cameras = [(predicted, _PREDICTED)] + ([] if true is None else [(true, _TRUE)])
    seen = points.astype(np.float64) @ axes.T
    centres = np.concatenate([_centres(extrinsics) for extrinsics, _ in cameras]) @ axes.T
    # A few stray points must not shrink the scene to a dot: the frame holds 96 % of them, and all
    # cameras.
    low, high = (
        np.percentile(seen[:, :2], [2, 98], axis=0)
        if len(seen)
        else (centres[:, :2], centres[:, :2])
    )
    low, high = np.minimum(low, centres[:, :2]).min(0), np.maximum(high, centres[:, :2]).max(0)
    extent = 1.15 * max(float((high - low).max()), 1e-6)
    middle = (low + high) / 2

    def pixels(at: Array) -> Array:
        return ((at[:, :2] - middle) / extent * [1, -1] + 0.5) * _PANEL

    pixel = np.floor(pixels(seen)).astype(int)
    inside = ((pixel >= 0) & (pixel < _PANEL - 1)).all(axis=1)
    order = np.flatnonzero(inside)[np.argsort(seen[inside, 2])]  # painter's algorithm: nearest last
    image = np.full((_PANEL, _PANEL, 3), 255, np.uint8)
    u, v = pixel[order].T
    for dv in (0, 1):
        for du in (0, 1):
            image[v + dv, u + du] = colors[order]
    panel = Image.fromarray(image)
    draw = ImageDraw.Draw(panel)
    for extrinsics, color in cameras:
        for corners in _frusta(extrinsics, 0.06 * extent):
            tip, *base = (tuple(corner) for corner in pixels(corners @ axes.T))
            for i, corner in enumerate(base):
                draw.line([tip, corner], color, 2)
                draw.line([corner, base[(i + 1) % 4]], color, 2)
    draw.rectangle((0, 0, _PANEL - 1, _PANEL - 1), outline=(200, 200, 200))
    return panel


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
