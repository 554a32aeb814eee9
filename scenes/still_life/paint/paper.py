"""Pages, and the covers and spines of books."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from scenes.still_life.paint.cloth import linen
from scenes.still_life.paint.ground import Generator, Rgb, Size, Texture, cloud, texture, varied
from scenes.still_life.paint.plant import sprig


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
        sprig(
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
        sprig(draw, (x, y + r * 1.15), r * 2.3, rng, [ink, ink], ink)
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
