"""Pictures that the tests send."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image


def make_picture(width: int = 120, height: int = 90, seed: int = 0) -> Image.Image:
    """Smooth random colours, so that JPEG and resizing leave it much the same."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def encode(picture: Image.Image, format: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format=format, **options)
    return buffer.getvalue()


def form(*pictures: bytes, field: str = "images") -> list[tuple[str, tuple[str, bytes, str]]]:
    """The files argument of httpx for a form of pictures."""
    return [(field, (f"{i}.png", data, "image/png")) for i, data in enumerate(pictures)]


def of_many_scans(side: int, scans: int) -> bytes:
    """A small file of a grey, progressive JPEG that goes over its pixels so many times."""
    file = io.BytesIO()
    Image.new("L", (side, side), 128).save(file, "JPEG", progressive=True)
    data = file.getvalue()
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * scans + b"\xff\xd9"
