"""Textures drawn from nothing: wood, cloth, paper, glaze, skins, and pictures on the wall.

Every function gives sRGB [h, w, 3] of 8 bits. Sizes are (width, height) in texels. What wraps
around a round thing fits together at its left and right edges.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

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


# wood


def planks(size: Size, count: int, rng: Generator, light: Rgb, dark: Rgb) -> Texture:
    """Boards along x, each with rings, fibres and pores of its own."""
    width, height = size
    board = height // count
    rows = []
    for _ in range(count):
        rows.append(_board((width, board), rng, light, dark))
    rows.append(rows[-1][: height - board * count])
    return texture(np.concatenate(rows))


def _board(size: Size, rng: Generator, light: Rgb, dark: Rgb) -> Array:
    width, height = size
    y = (np.arange(height)[:, None] - height * rng.uniform(-0.3, 1.3)) / 380
    x = np.arange(width)[None] / 380
    bent = 0.10 * cloud(size, rng, 2.2, (7, 1)) + 0.05 * np.sin(
        x * rng.uniform(0.3, 0.8) + rng.uniform(0, 6)
    )
    ring = np.hypot(y + bent, 0.16 + 0.1 * rng.random()) * rng.uniform(13, 20)
    late = (ring % 1.0) ** 3
    fibres = cloud(size, rng, 0.35, (45, 1))
    pores = np.clip(cloud(size, rng, 0.2, (16, 1)) - 1.7, 0, 1)
    patches = cloud(size, rng, 1.6, (4, 1))
    share = 0.30 + 0.36 * late + 0.075 * fibres + 0.07 * patches + rng.uniform(-0.11, 0.11)
    board = mixed(share, light, dark) * (1 - 0.42 * pores[..., None])
    gap = np.minimum(np.arange(height), np.arange(height)[::-1])[:, None, None]
    board *= 1 - 0.72 * np.exp(-((gap / 1.8) ** 2))
    return board * (1 + 0.02 * rng.standard_normal(3) * [1, 0.7, 0.5])


# cloth and paper


def linen(
    size: Size, rng: Generator, base: Rgb, stripes: Sequence[tuple[float, float, Rgb]]
) -> Texture:
    """Woven cloth: threads both ways, `stripes` (from, to, colour) along x as shares of the
    height."""
    width, height = size
    cloth = np.broadcast_to(np.array(base, dtype=np.float64), (height, width, 3)).copy()
    for start, end, color in stripes:
        cloth[int(start * height) : int(end * height)] = color
    warp = (
        np.sin(np.arange(width) * np.pi / 2.5)[None]
        * np.cos(np.arange(height) * np.pi / 2.5)[:, None]
    )
    slubs = cloud(size, rng, 0.25, (30, 1)) + cloud(size, rng, 0.25, (1, 30))
    return texture(
        cloth * (1 + 0.05 * warp + 0.055 * slubs + 0.03 * cloud(size, rng, 1.2))[..., None]
    )


def print_cloth(size: Size, rng: Generator, base: Rgb, inks: Sequence[Rgb]) -> Texture:
    """Cloth with a hand-blocked print of sprigs and dots."""
    picture = Image.new("RGB", size, base)
    draw = ImageDraw.Draw(picture)
    for x, y in _scattered(size, 62, rng):
        angle = rng.uniform(0, 2 * np.pi)
        for k in range(5):
            draw.polygon(leaf((x, y), 26, 11, angle + k * 2 * np.pi / 5), inks[k % 2])
        draw.ellipse((x - 5, y - 5, x + 5, y + 5), inks[2])
        for k in range(5):
            a = angle + (k + 0.5) * 2 * np.pi / 5
            u, v = x + 27 * np.cos(a), y + 27 * np.sin(a)
            draw.ellipse((u - 2.5, v - 2.5, u + 2.5, v + 2.5), inks[2])
    return texture(linen(size, rng, (255, 255, 255), []) / 255.0 * np.array(picture))


def wallpaper(
    size: Size, rng: Generator, base: Rgb, inks: Sequence[Rgb], flowers: Sequence[Rgb]
) -> Texture:
    """Hand-painted branches, leaves and blossoms; nothing repeats."""
    picture = Image.new("RGB", size, base)
    draw = ImageDraw.Draw(picture)
    blossoms = []
    for x, y in _scattered(size, 170, rng):
        heading = rng.uniform(0, 2 * np.pi)
        turn = rng.uniform(-0.16, 0.16)
        ink = np.array(inks[int(rng.integers(len(inks)))])
        path = [(x, y)]
        for _ in range(15):
            heading += turn + rng.normal(0, 0.05)
            path.append((path[-1][0] + 16 * np.cos(heading), path[-1][1] + 16 * np.sin(heading)))
        draw.line(path, tuple(np.int64(ink * 0.8)), 3, joint="curve")
        for k, place in enumerate(path[2:], 2):
            for side in (-1, 1):
                way = np.arctan2(path[k][1] - path[k - 1][1], path[k][0] - path[k - 1][0])
                length = rng.uniform(26, 46) * (1 - 0.03 * k)
                shade = tuple(np.int64(ink * rng.uniform(0.72, 1.12)))
                shape = leaf(place, length, length * 0.36, way + side * rng.uniform(0.5, 1.0))
                draw.polygon(shape, shade)
                draw.line([shape[0], shape[len(shape) // 2]], tuple(np.int64(ink * 0.62)), 1)
        blossoms.append(path[-1])
    for place in blossoms:
        color = np.array(flowers[int(rng.integers(len(flowers)))])
        radius, start = rng.uniform(13, 24), rng.uniform(0, 6)
        for k in range(6):
            shade = tuple(np.int64(color * rng.uniform(0.85, 1.05)))
            draw.polygon(leaf(place, radius * 1.5, radius, start + k * np.pi / 3, 1.7), shade)
        x, y = place
        draw.ellipse((x - 4, y - 4, x + 4, y + 4), tuple(np.int64(color * 0.55)))
    for x, y in _scattered(size, 60, rng):
        r = rng.uniform(1.5, 3.5)
        draw.ellipse((x - r, y - r, x + r, y + r), tuple(np.int64(np.array(inks[0]) * 0.9)))
    return varied(picture, rng, 0.045)


def plaster(size: Size, rng: Generator, base: Rgb) -> Texture:
    """Lime plaster: soft clouds and trowel marks."""
    marks = cloud(size, rng, 0.9, (2, 1))
    return texture(np.array(base) * (1 + 0.025 * cloud(size, rng, 1.5) + 0.02 * marks)[..., None])


def page_edges(size: Size, rng: Generator) -> Texture:
    """The leaves of a closed book, from the side."""
    lines = rng.normal(0, 1, (size[1], 1)) + 0.4 * cloud(size, rng, 0.4, (60, 1))
    return texture(np.array([226, 213, 184]) * (1 + 0.07 * lines)[..., None])


def printed_page(
    size: Size, rng: Generator, heading: str, lines: Sequence[str], plate: bool
) -> Texture:
    """A page of a book: a heading, text, and under it a drawing if `plate`."""
    width, height = size
    picture = Image.new("RGB", size, (240, 231, 211))
    draw = ImageDraw.Draw(picture)
    ink = (52, 44, 38)
    left, top = int(width * 0.13), int(height * 0.09)
    draw.text(
        (width / 2, top), heading, (138, 48, 34), ImageFont.load_default(height // 22), anchor="mm"
    )
    font = ImageFont.load_default(height / 40)
    row, words = top + height // 17, " ".join(lines).split()
    place = 0
    bottom = height * (0.50 if plate else 0.93)
    while row < bottom:
        line: list[str] = []
        while True:
            word = words[place % len(words)]
            if draw.textlength(" ".join([*line, word]), font) > width - 2 * left:
                break
            line.append(word)
            place += 1
        draw.text((left, row), " ".join(line), ink, font)
        row += height // 30
    if plate:
        _sprig(
            draw,
            (width * 0.5, height * 0.93),
            height * 0.38,
            rng,
            [(70, 92, 62), (96, 112, 72)],
            (176, 70, 58),
        )
    return varied(picture, rng, 0.02)


def book_cover(
    size: Size, rng: Generator, base: Rgb, ink: Rgb, title: str, author: str, motif: str
) -> Texture:
    """Cloth-bound boards with a frame, a motif (`sun`, `sprig`, `waves`) and letters in `ink`."""
    width, height = size
    picture = Image.new("RGB", size, base)
    draw = ImageDraw.Draw(picture)
    for inset, line in ((0.05, 4), (0.075, 2)):
        edge = inset * width
        draw.rectangle((edge, edge, width - edge, height - edge), outline=ink, width=line)
    draw.text(
        (width / 2, height * 0.17), title, ink, ImageFont.load_default(width / 8.5), anchor="mm"
    )
    draw.text(
        (width / 2, height * 0.86), author, ink, ImageFont.load_default(width / 15), anchor="mm"
    )
    x, y, r = width / 2, height * 0.51, width * 0.26
    if motif == "sun":
        for k in range(32):
            a, reach = k * np.pi / 16, r * (1.25 if k % 2 else 1.05)
            draw.line(
                (
                    x + r * 0.72 * np.cos(a),
                    y + r * 0.72 * np.sin(a),
                    x + reach * np.cos(a),
                    y + reach * np.sin(a),
                ),
                ink,
                4,
            )
        draw.ellipse((x - r * 0.62, y - r * 0.62, x + r * 0.62, y + r * 0.62), outline=ink, width=5)
        for k in range(7):
            q = r * (0.5 - 0.07 * k)
            draw.arc((x - q, y - q, x + q, y + q), 20 * k, 200 + 20 * k, ink, 3)
    elif motif == "waves":
        for row in range(9):
            for k in range(9):
                q = r * 0.27
                u, v = x + (k - 4 + row % 2 / 2) * q * 1.0, y + (row - 4) * q * 0.62
                for s in (1.0, 0.66, 0.33):
                    draw.arc(
                        (u - q * s / 2, v - q * s / 2, u + q * s / 2, v + q * s / 2),
                        180,
                        360,
                        ink,
                        3,
                    )
    else:
        _sprig(draw, (x, y + r * 1.15), r * 2.3, rng, [ink, ink], ink)
    return texture(linen(size, rng, (255, 255, 255), []) / 255.0 * np.array(picture))


def book_spine(size: Size, rng: Generator, base: Rgb, ink: Rgb, title: str) -> Texture:
    """Letters along x between double bands."""
    width, height = size
    picture = Image.new("RGB", size, base)
    draw = ImageDraw.Draw(picture)
    for share in (0.06, 0.09, 0.91, 0.94, 0.16, 0.84):
        draw.line((share * width, 0, share * width, height), ink, 4)
    for share in (0.125, 0.875):
        x, y, r = share * width, height / 2, height * 0.2
        draw.polygon([(x - r, y), (x, y - r), (x + r, y), (x, y + r)], ink)
    draw.text(
        (width / 2, height / 2),
        title,
        ink,
        ImageFont.load_default(min(height * 0.55, width / 11)),
        anchor="mm",
    )
    return texture(linen(size, rng, (255, 255, 255), []) / 255.0 * np.array(picture))


# ceramic


def vase_glaze(size: Size, rng: Generator, base: Rgb, ink: Rgb) -> Texture:
    """Blue on white: bands, scrolling stems with leaves, lappets at the foot."""
    width, height = size
    picture = Image.new("RGB", size, base)
    draw = ImageDraw.Draw(picture)

    def wash(share: float) -> Rgb:
        color = np.array(base) + share * (np.array(ink) - np.array(base))
        return tuple(np.int64(color))

    for share, line in (
        (0.13, 9),
        (0.16, 3),
        (0.245, 3),
        (0.265, 9),
        (0.70, 9),
        (0.725, 3),
        (0.93, 3),
        (0.95, 10),
    ):
        draw.line((0, share * height, width, share * height), ink, line)
    for k in range(24):
        x = (k + 0.5) * width / 24
        draw.ellipse(
            (x - 13, height * 0.203 - 13, x + 13, height * 0.203 + 13), outline=ink, width=4
        )
        draw.ellipse((x - 4, height * 0.203 - 4, x + 4, height * 0.203 + 4), fill=ink)
    for k in range(16):
        x, half = (k + 0.5) * width / 16, width / 34
        shape = [
            (x - half, height * 0.93),
            (x - half, height * 0.80),
            (x, height * 0.745),
            (x + half, height * 0.80),
            (x + half, height * 0.93),
        ]
        draw.line(shape, ink, 5, joint="curve")
        draw.polygon(leaf((x, height * 0.915), height * 0.12, half * 1.1, -np.pi / 2), wash(0.55))
    middle, swing = height * 0.48, height * 0.12
    t = np.linspace(0, width, 400)
    stem = middle + swing * np.sin(2 * np.pi * 5 * t / width)
    draw.line(list(zip(t, stem, strict=True)), ink, 7)
    for k in range(60):
        x = (k + rng.uniform(-0.2, 0.2)) * width / 60
        y = middle + swing * np.sin(2 * np.pi * 5 * x / width)
        side = -1 if k % 2 else 1
        for turn in (-width, 0, width):
            shape = leaf(
                (x + turn, y),
                height * rng.uniform(0.07, 0.11),
                height * 0.035,
                side * (1.1 + rng.normal(0, 0.2)),
            )
            draw.polygon(shape, wash(rng.uniform(0.45, 0.95)))
            draw.line([*shape, shape[0]], ink, 2)
    for k in range(10):
        x = (k / 10 + 0.05) * width
        y = middle - swing * 0.25 * np.sin(2 * np.pi * 5 * x / width)
        for petal in range(9):
            shape = leaf((x, y), height * 0.085, height * 0.045, petal * 2 * np.pi / 9, 1.6)
            draw.polygon(shape, wash(0.62 if petal % 2 else 0.82))
            draw.line([*shape, shape[0]], ink, 2)
        draw.ellipse((x - 12, y - 12, x + 12, y + 12), base, ink, 4)
    return _fired(picture, rng)


def bowl_glaze(size: Size, rng: Generator, base: Rgb, inks: Sequence[Rgb]) -> Texture:
    """Painted bands: brush leaves, dots and lozenges in several colours."""
    width, height = size
    picture = Image.new("RGB", size, base)
    draw = ImageDraw.Draw(picture)
    for share in (0.52, 0.545, 0.63, 0.80, 0.83):
        draw.line((0, share * height, width, share * height), inks[0], 6)
    for share in (0.06, 0.16, 0.30, 0.42):
        draw.line((0, share * height, width, share * height), inks[1], 5)
    for k in range(40):
        x = (k + 0.5) * width / 40
        y = height * 0.587
        draw.ellipse((x - 10, y - 10, x + 10, y + 10), inks[1 + k % 2])
        draw.ellipse((x - 8, height * 0.36 - 8, x + 8, height * 0.36 + 8), inks[k % 3])
    for k in range(28):
        x, y = (k + 0.5) * width / 28, height * 0.715
        for side in (-1, 1):
            draw.polygon(
                leaf((x, y), height * 0.085, height * 0.035, side * 0.9 - np.pi / 2), inks[2]
            )
            draw.polygon(
                leaf((x, y), height * 0.085, height * 0.035, side * 0.9 + np.pi / 2), inks[0]
            )
        r = 7
        draw.ellipse((x - r, y - r, x + r, y + r), inks[1])
    return _fired(picture, rng)


def plate_glaze(side: int, rng: Generator, base: Rgb, inks: Sequence[Rgb]) -> Texture:
    """A plate seen from above: a bird's nest of rings, petals and a wreath."""
    picture = Image.new("RGB", (side, side), base)
    draw = ImageDraw.Draw(picture)
    middle = side / 2

    def ring(share: float, line: int, color: Rgb) -> None:
        r = share * middle
        draw.ellipse((middle - r, middle - r, middle + r, middle + r), outline=color, width=line)

    for share, line, color in (
        (0.97, 14, inks[0]),
        (0.91, 4, inks[0]),
        (0.64, 5, inks[0]),
        (0.60, 3, inks[1]),
        (0.2, 6, inks[0]),
    ):
        ring(share, line, color)
    for k in range(36):
        a = 2 * np.pi * k / 36
        place = middle + 0.775 * middle * np.cos(a), middle + 0.775 * middle * np.sin(a)
        for turn in (-0.8, 0.8):
            draw.polygon(
                leaf(place, side * 0.06, side * 0.022, a + np.pi / 2 + turn), inks[1 + k % 2]
            )
        x, y = place
        draw.ellipse((x - 7, y - 7, x + 7, y + 7), inks[0])
    for count, length, color, shift in (
        (12, 0.34, inks[1], 0.0),
        (12, 0.25, inks[0], 0.5),
        (8, 0.16, inks[2], 0.0),
    ):
        for k in range(count):
            a = 2 * np.pi * (k + shift) / count
            draw.polygon(
                leaf((middle, middle), side * length / 1.25, side * length * 0.24, a, 1.2), color
            )
    draw.ellipse((middle - 26, middle - 26, middle + 26, middle + 26), base, inks[0], 6)
    return _fired(picture, rng)


def stoneware(
    size: Size, rng: Generator, base: Rgb, speck: Rgb, dipped: Rgb | None = None
) -> Texture:
    """Glaze with iron specks; `dipped`: the colour of a second glaze over the upper part."""
    width, height = size
    glaze = np.broadcast_to(np.array(base, dtype=np.float64), (height, width, 3)).copy()
    if dipped is not None:
        angle = np.arange(width) / width * 2 * np.pi
        waves = 0.03 * np.sin(2 * angle + 1) + 0.014 * np.sin(7 * angle)
        edge = height * (0.52 + waves + 0.006 * np.sin(19 * angle))
        over = np.clip((edge[None] - np.arange(height)[:, None]) / 6, 0, 1)
        glaze = mixed(over, base, dipped)
    picture = Image.fromarray(texture(glaze))
    draw = ImageDraw.Draw(picture)
    for _ in range(size[0] * size[1] // 900):
        x, y, r = rng.uniform(0, width), rng.uniform(0, height), rng.exponential(1.0) + 0.5
        draw.ellipse(
            (x - r, y - r, x + r, y + r), tuple(np.int64(np.array(speck) * rng.uniform(0.7, 1.5)))
        )
    return _fired(picture, rng)


def terracotta(size: Size, rng: Generator) -> Texture:
    """Unglazed clay with lime stains."""
    stains = np.clip(cloud(size, rng, 1.3) - 0.9, 0, 1.2) * 0.45
    clay = mixed(stains, (181, 96, 62), (214, 186, 160))
    return texture(clay * (1 + 0.06 * cloud(size, rng, 0.4))[..., None])


def _fired(picture: Image.Image, rng: Generator) -> Texture:
    return varied(picture, rng, 0.03, 1.1)


# fruit and plants


def apple_skin(size: Size, rng: Generator, ground: Rgb, blush: Rgb, amount: float) -> Texture:
    """Streaks of red over yellow, pale lenticels."""
    width, height = size
    x = np.arange(width)[None] / width * 2 * np.pi
    side = 0.5 + 0.42 * np.cos(x - rng.uniform(0, 6)) + 0 * np.arange(height)[:, None]
    streaks = cloud(size, rng, 0.8, (1, 9))
    share = amount + 0.42 * (side - 0.5) + 0.17 * streaks + 0.1 * cloud(size, rng, 1.4)
    pole = np.arange(height)[:, None] / height
    share = share - 0.75 * np.exp(-pole * 11) - 0.3 * np.exp(-(1 - pole) * 9)
    skin = mixed(share, ground, blush)
    skin *= (1 - 0.22 * np.clip(share - 0.8, 0, 1))[..., None]
    dots = Image.new("L", size, 0)
    draw = ImageDraw.Draw(dots)
    for _ in range(520):
        u, v, r = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(0.8, 2.2)
        draw.ellipse((u - r, v - r, u + r, v + r), int(rng.uniform(60, 190)))
    pale = np.array(dots)[..., None] / 255
    return texture(skin * (1 - pale) + pale * np.array([238, 214, 150]))


def citrus_skin(size: Size, rng: Generator, base: Rgb, pit: Rgb) -> Texture:
    """Pits all over, some green at the stem."""
    pits = np.clip(
        cloud(size, rng, -0.1) * 0.4 + cloud((size[0], size[1]), rng, 0.5) * 0.45 - 0.2, 0, 1
    )
    skin = mixed(pits * 0.75, base, pit)
    pole = np.exp(-np.arange(size[1])[:, None, None] / size[1] * 14)
    skin = skin * (1 - 0.5 * pole) + 0.5 * pole * np.array([150, 150, 60])
    return texture(skin * (1 + 0.035 * cloud(size, rng, 1.3))[..., None])


def pear_skin(size: Size, rng: Generator) -> Texture:
    """Green to yellow, russet freckles."""
    height = size[1]
    share = 0.5 + 0.25 * cloud(size, rng, 1.5)
    skin = mixed(share, (170, 172, 66), (214, 186, 84))
    freckles = np.clip(cloud(size, rng, 0.15) - 1.5, 0, 1)[..., None]
    russet = np.clip(
        0.25 * cloud(size, rng, 1.0) + 0.9 - 5 * np.arange(height)[:, None] / height, 0, 0.8
    )
    skin = skin * (1 - freckles) + freckles * np.array([120, 84, 36])
    return texture(skin * (1 - russet[..., None]) + russet[..., None] * np.array([150, 108, 56]))


def leaf_sheet(size: Size, rng: Generator, greens: Sequence[Rgb]) -> Texture:
    """Four by four leaves with veins, one a cell; each runs from the top of its cell down."""
    width, height = size
    cells = []
    for _ in range(4):
        row = []
        for _ in range(4):
            row.append(
                _leaf_cell((width // 4, height // 4), rng, greens[int(rng.integers(len(greens)))])
            )
        cells.append(np.concatenate(row, axis=1))
    return np.concatenate(cells)


def _leaf_cell(size: Size, rng: Generator, green: Rgb) -> Texture:
    width, height = size
    x = (np.arange(width)[None] + 0.5) / width - 0.5
    y = np.arange(height)[:, None] / height
    veins = np.abs(((y - 1.1 * np.abs(x)) * 9) % 1 - 0.5)
    pale = np.exp(-((x / 0.025) ** 2)) + 0.5 * np.exp(-((veins / 0.07) ** 2))
    shade = 1 + 0.10 * cloud(size, rng, 1.0) + rng.uniform(-0.14, 0.14)
    color = np.array(green) * shade[..., None]
    return texture(
        color * (1 - 0.42 * pale[..., None]) + 0.42 * pale[..., None] * np.array([196, 204, 150])
    )


def petal(size: Size, rng: Generator, base: Rgb, heart: Rgb) -> Texture:
    """A petal from its heart (top) to its rim, with fine lines along it."""
    width, height = size
    y = np.arange(height)[:, None] / height
    lines = cloud(size, rng, 0.5, (1, 25))
    share = np.exp(-y * 5) + 0.09 * lines + 0 * np.arange(width)[None]
    return texture(mixed(share, base, heart) * (1 + 0.035 * lines)[..., None])


# pictures


def landscape(size: Size, rng: Generator) -> Texture:
    """Hills by a lake in the evening, put down in brush strokes."""
    width, height = size
    x = np.arange(width)[None] / width
    y = np.arange(height)[:, None] / height
    scene = mixed(y / 0.45 + 0 * x, (122, 156, 186), (246, 208, 150))
    sun = np.exp(-(((x - 0.64) / 0.10) ** 2 + ((y - 0.36) / 0.09) ** 2))
    scene = scene + sun[..., None] * np.array([46, 34, 0])
    layers = (
        (0.44, 0.05, (150, 152, 168), 1.9),
        (0.50, 0.06, (112, 126, 140), 1.9),
        (0.57, 0.05, (88, 108, 104), 1.7),
        (0.64, 0.03, (78, 98, 70), 1.5),
    )
    for level, swing, color, exponent in layers:
        ridge = level + swing * cloud((width, 8), rng, exponent, (1, 50))[0] / 1.6
        inside = np.clip((y - ridge[None]) * height / 3, 0, 1)[..., None]
        shaded = np.array(color) * (1 + 0.10 * cloud(size, rng, 1.1, (2, 1)))[..., None]
        scene = scene * (1 - inside) + inside * shaded
    water = np.clip((y - 0.70) * height / 4, 0, 1)[..., None] * np.ones((1, width, 1))
    lake = mixed((y - 0.7) / 0.3 + 0 * x, (226, 190, 150), (70, 104, 128))
    lake = lake * (1 + 0.16 * cloud(size, rng, 0.9, (14, 1)))[..., None]
    scene = scene * (1 - water) + water * lake
    picture = Image.fromarray(texture(scene))
    return _brushed(picture, rng)


def _brushed(picture: Image.Image, rng: Generator) -> Texture:
    """Strokes that each take the colour under them."""
    width, height = picture.size
    source = np.array(picture)
    draw = ImageDraw.Draw(picture)
    for length, thick, count in ((46, 15, 2600), (26, 8, 9000), (15, 4, 14000)):
        for _ in range(count):
            u, v = rng.uniform(0, width), rng.uniform(0, height)
            color = source[int(v), int(u)] * rng.uniform(0.86, 1.13) + rng.normal(0, 5, 3)
            angle = rng.normal(0, 0.35)
            du, dv = length / 2 * np.cos(angle), length / 2 * np.sin(angle)
            fill = tuple(int(c) for c in np.clip(color, 0, 255))
            draw.line((u - du, v - dv, u + du, v + dv), fill, thick)
    return varied(picture, rng, 0.03, 0.4)


def botanical(size: Size, rng: Generator, flower: Rgb, name: str) -> Texture:
    """A plant on cream paper with its name underneath."""
    width, height = size
    picture = Image.new("RGB", size, (238, 228, 204))
    draw = ImageDraw.Draw(picture)
    greens = [(74, 98, 66), (98, 120, 78)]
    for start in (-0.16, 0.15, 0.0):
        _sprig(
            draw,
            (width * (0.5 + start * 0.5), height * 0.84),
            height * (0.72 - abs(start)),
            rng,
            greens,
            flower,
            start * 2.2,
        )
    draw.text(
        (width / 2, height * 0.92),
        name,
        (70, 60, 50),
        ImageFont.load_default(height / 26),
        anchor="mm",
    )
    return varied(picture, rng, 0.025)


def abstract(size: Size, rng: Generator, inks: Sequence[Rgb]) -> Texture:
    """Arches, discs and stripes cut from paper."""
    width, height = size
    picture = Image.new("RGB", size, (236, 224, 202))
    draw = ImageDraw.Draw(picture)
    cell = width / 4
    for row in range(int(height / cell) + 1):
        for column in range(4):
            x, y = column * cell, row * cell
            a, b = (inks[k] for k in rng.choice(len(inks), 2, replace=False))
            draw.rectangle((x, y, x + cell, y + cell), a)
            kind = rng.integers(4)
            if kind == 0:
                draw.pieslice((x - cell, y, x + cell, y + 2 * cell), 270, 360, b)
            elif kind == 1:
                for k in range(4):
                    q = cell * (0.46 - 0.11 * k)
                    draw.ellipse(
                        (x + cell / 2 - q, y + cell / 2 - q, x + cell / 2 + q, y + cell / 2 + q),
                        b if k % 2 == 0 else a,
                    )
            elif kind == 2:
                for k in range(4):
                    draw.rectangle((x, y + k * cell / 4, x + cell, y + (k + 0.5) * cell / 4), b)
            else:
                draw.polygon([(x, y), (x + cell, y), (x, y + cell)], b)
    return varied(picture, rng, 0.04)


def leaf(
    place: tuple[float, float], length: float, width: float, angle: float, tip: float = 1.0
) -> list[tuple[float, float]]:
    """The outline of a leaf from `place` along `angle` (radians, y downwards)."""
    t = np.linspace(0, 1, 12)
    half = width / 2 * np.sin(np.pi * t**0.85) ** (1 / tip)
    along, across = np.r_[t, t[::-1]] * length, np.r_[half, -half[::-1]]
    x = place[0] + along * np.cos(angle) - across * np.sin(angle)
    y = place[1] + along * np.sin(angle) + across * np.cos(angle)
    return list(zip(x.tolist(), y.tolist(), strict=True))


def _sprig(
    draw: ImageDraw.ImageDraw,
    foot: tuple[float, float],
    length: float,
    rng: Generator,
    greens: Sequence[Rgb],
    flower: Rgb,
    lean: float = 0.0,
) -> None:
    """A stem upwards from `foot` with leaves, and a flower on top."""
    heading, step = -np.pi / 2 + lean * 0.4, length / 14
    path = [foot]
    for _ in range(13):
        heading += rng.normal(0, 0.05) + lean * 0.03
        path.append((path[-1][0] + step * np.cos(heading), path[-1][1] + step * np.sin(heading)))
    draw.line(path, greens[0], max(2, int(length / 110)), joint="curve")
    for k in range(2, 12):
        for side in (-1, 1):
            size = length * 0.17 * (1.1 - k / 16)
            shape = leaf(path[k], size, size * 0.36, heading + side * rng.uniform(0.6, 1.1))
            draw.polygon(shape, greens[int(rng.integers(len(greens)))])
    x, y = path[-1]
    for k in range(8):
        draw.polygon(leaf((x, y), length * 0.1, length * 0.05, k * np.pi / 4, 1.5), flower)
    r = length * 0.02
    draw.ellipse((x - r, y - r, x + r, y + r), greens[0])


def _scattered(size: Size, apart: float, rng: Generator) -> list[tuple[float, float]]:
    """Places about `apart` from each other: a grid with every other row shifted, shaken."""
    places = []
    for row in range(int(size[1] / apart) + 2):
        for column in range(int(size[0] / apart) + 2):
            shake = rng.uniform(-0.33, 0.33, 2)
            x = (column + row % 2 / 2 + shake[0]) * apart
            places.append((float(x), float((row + shake[1]) * apart)))
    return places
