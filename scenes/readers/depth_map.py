"""Depth maps as data sets store them, read as float32 [h, w] in the file's unit or metres, 0 = no
ground truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

DepthMap = NDArray[np.float32]

NEAREST, FARTHEST = 0.001, 10.0
"""Metres. What RGB-D benchmarks take as measured: (NEAREST, FARTHEST]."""


def read_millimetres(path: Path) -> DepthMap:
    """A 16-bit PNG in millimetres as metres; what lies outside (0.001, 10] m is 0. Raises
    ValueError."""
    metres = _read_uint16(path).astype(np.float32) / 1000
    return np.where((metres > NEAREST) & (metres <= FARTHEST), metres, np.float32(0))


def read_float16_png(path: Path) -> DepthMap:
    """A 16-bit PNG whose bits are half-precision numbers, as Co3Dv2 stores them; not finite becomes
    0."""
    depth = _read_uint16(path).view(np.float16).astype(np.float32)
    return np.where(np.isfinite(depth), depth, np.float32(0))


def read_pfm(path: Path) -> DepthMap:
    """A one-channel portable float map; its rows are stored from the bottom up. Raises
    ValueError."""
    with _found(path).open("rb") as file:
        magic, size, scale = (file.readline().strip() for _ in range(3))
        content = file.read()
    try:
        width, height = (int(number) for number in size.split())
        order = "<" if float(scale) < 0 else ">"
    except ValueError as error:
        raise ValueError(
            f"{path}: not a portable float map: its header reads {size!r}, {scale!r}"
        ) from error
    if magic != b"Pf" or width < 1 or height < 1 or len(content) != 4 * width * height:
        raise ValueError(
            f"{path}: expected the header Pf and {width}x{height} numbers of 4 bytes, "
            f"found {magic!r} and {len(content)} bytes"
        )
    return np.flipud(np.frombuffer(content, dtype=f"{order}f4").reshape(height, width)).astype(
        np.float32
    )


def read_npy(path: Path) -> DepthMap:
    """A NumPy array [h, w] of numbers. Raises ValueError."""
    try:
        depth = np.load(_found(path), allow_pickle=False)
    except (EOFError, OSError, ValueError) as error:
        raise ValueError(f"{path}: not a NumPy array: {error}") from error
    if not isinstance(depth, np.ndarray) or depth.ndim != 2 or depth.dtype.kind not in "fiu":
        raise ValueError(
            f"{path}: expected one depth map [h, w] of numbers, found "
            f"{getattr(depth, 'shape', 'an .npz')}"
        )
    return depth.astype(np.float32)


def _read_uint16(path: Path) -> NDArray[np.uint16]:
    try:
        with Image.open(_found(path)) as picture:
            mode, values = picture.mode, np.array(picture)
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise ValueError(f"{path}: this depth map cannot be decoded: {error}") from error
    if not mode.startswith("I"):
        raise ValueError(
            f"{path}: a depth map of picture mode {mode!r}; expected a 16-bit greyscale PNG"
        )
    return values.astype(np.uint16)


def _found(path: Path) -> Path:
    if not path.is_file():
        raise ValueError(f"{path}: no such depth map")
    return path
