"""Pictures of rooms that have enough texture to be matched, and of what can't be."""

from __future__ import annotations

import io
from functools import cache

import av
import numpy as np
from PIL import Image

from scenes.synthetic.generator import SyntheticScenes
from tests.service.pictures import encode

SIDE = 256


@cache
def room(number: int = 0, views: int = 3, side: int = SIDE) -> tuple[bytes, ...]:
    """JPEG pictures of a room."""
    scene = SyntheticScenes("test", number + 1, num_views=views, height=side, width=side)[number]
    pixels = (scene.images.movedim(1, -1) * 255).round().byte().numpy()
    return tuple(encode(Image.fromarray(each), "JPEG", quality=95) for each in pixels)


def black(count: int) -> list[bytes]:
    return [encode(Image.new("RGB", (SIDE, SIDE)), "JPEG")] * count


def standing_video(frames: int = 4) -> bytes:
    """A video of a camera that does not move: one picture, again and again, with a little noise."""
    still = np.asarray(Image.open(io.BytesIO(room()[0]))).astype(float)
    random = np.random.default_rng(0)
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=1)
        stream.width = stream.height = SIDE
        stream.bit_rate = 4_000_000
        for _ in range(frames):
            noisy = (still + random.normal(0, 2, still.shape)).clip(0, 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(noisy, format="rgb24")))
        container.mux(stream.encode())
    return buffer.getvalue()
