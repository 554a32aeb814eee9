"""What every texture is made of: noise, mixed colours, drawings that vary a little."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[np.float64]
Texture = NDArray[np.uint8]
Rgb = tuple[int, int, int]
Size = tuple[int, int]
Generator = np.random.Generator


def cloud(
    size: Size, rng: Generator, exponent: float = 1.0, stretch: tuple[float, float] = (1, 1)
) -> Array:
    """Noise [h, w] of unit variance whose amplitude falls as 1 / f^exponent; `stretch` makes it
    longer along x or y. Its edges fit together."""
    width, height = size
    x = np.fft.rfftfreq(width) * stretch[0]
    y = np.fft.fftfreq(height)[:, None] * stretch[1]
    frequency = np.hypot(x, y)
    frequency[0, 0] = 1.0
    spectrum = np.fft.rfft2(rng.standard_normal((height, width))) / frequency**exponent
    spectrum[0, 0] = 0
    noise: Array = np.fft.irfft2(spectrum, s=(height, width))
    return noise / noise.std()


def mixed(share: Array, first: Rgb, second: Rgb) -> Array:
    """From `first` (share 0) to `second` (share 1), as floats [h, w, 3]."""
    share = np.clip(share, 0, 1)[..., None]
    mixture: Array = (1 - share) * np.array(first) + share * np.array(second)
    return mixture


def texture(values: Array) -> Texture:
    """Floats of 0 to 255 as bytes."""
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def flat(color: Rgb, rng: Generator, size: Size = (256, 256), grain: float = 4) -> Texture:
    """One colour, a little uneven."""
    return texture(np.array(color) + grain * cloud(size, rng, 0.6)[..., None])


def varied(picture: Image.Image, rng: Generator, amount: float, exponent: float = 0.7) -> Texture:
    """A drawing whose lightness varies a little, as of anything made by hand."""
    uneven = cloud(picture.size, rng, exponent)[..., None]
    return texture(np.array(picture.convert("RGB")) * (1 + amount * uneven))


def scattered(size: Size, apart: float, rng: Generator) -> list[tuple[float, float]]:
    """Places about `apart` from each other: a grid with every other row shifted, shaken."""
    places = []
    for row in range(int(size[1] / apart) + 2):
        for column in range(int(size[0] / apart) + 2):
            shake = rng.uniform(-0.33, 0.33, 2)
            x = (column + row % 2 / 2 + shake[0]) * apart
            places.append((float(x), float((row + shake[1]) * apart)))
    return places
