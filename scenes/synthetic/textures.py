"""Procedural surface textures, filtered over each pixel's footprint so that distant ones blur
instead of flickering.

One formula serves every pattern. Two pulse trains, across u and across v, cover p and q of a pixel;
then a p + b q + c p q is a checker (1, 1, -2), stripes (1, 0, 0), tiles or bricks (1, 1, -1) or
windows (0, 0, 1). Several octaves of value noise and a random shade per cell make every place
different from every other.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scenes.synthetic.natural_textures import TILES, tile_colours

Array = NDArray[np.float64]

FIELDS = (
    "u_from_s", "u_from_t", "v_from_s", "v_from_t", "u_offset", "v_offset", "shear", "u_duty",
    "v_duty", "first", "second", "both", "noise_scale", "noise_start", "blotches", "sharpness",
    "relief", "cells", "red", "green", "blue", "red_step", "green_step", "blue_step", "red_tint",
    "green_tint", "blue_tint", "tile", "texels", "shade",
)  # fmt: skip
"""Parameters of one surface, in the order in which `draw_textures` stores and `albedo` reads them.

`tile` is a number of `natural_textures`, which then replaces the pattern, or -1.
"""
_COLUMN = {name: i for i, name in enumerate(FIELDS)}

_LATTICE = 128
_OCTAVES = (0.55, 0.45, 0.4, 0.3)
_PATTERNS = np.array([  # first, second, both, shear, weight
    [1.0, 1.0, -2.0, 0.0, 0.20],  # checker
    [1.0, 0.0, 0.0, 0.0, 0.18],  # stripes
    [1.0, 1.0, -1.0, 0.0, 0.17],  # tiles
    [1.0, 1.0, -1.0, 0.5, 0.15],  # bricks
    [0.0, 0.0, 1.0, 0.0, 0.10],  # windows
    [0.0, 0.0, 0.0, 0.0, 0.20],  # plain with noise
])  # fmt: skip
_CHECKER, _STRIPES, _TILES, _BRICKS, _WINDOWS, _PLAIN = range(6)


def draw_textures(
    rng: np.random.Generator, num_solids: int, large: NDArray[np.bool_] | None = None
) -> Array:
    """Parameters [num_solids, 6, len(FIELDS)] of six faces a solid, all patterns.

    The faces of solid 0, the room, differ in everything; those of another solid share a style and
    differ in place and shade. `large` [num_solids] (default: only the room) says which solids have
    the larger patterns.
    """
    shape = (num_solids, 6)
    pattern = rng.choice(len(_PATTERNS), size=shape, p=_PATTERNS[:, 4])
    r = rng.random((*shape, 16))
    signs = rng.uniform(-1, 1, (*shape, 9))
    pattern[1:] = pattern[1:, :1]
    r[1:, :, 2:] = r[1:, :1, 2:]
    signs[1:] = signs[1:, :1]

    room = (np.arange(num_solids) == 0 if large is None else large)[:, None]
    period = np.where(room, 0.4, 0.16) * 3.0 ** r[..., 2]
    aspect = np.where(pattern == _BRICKS, 2.0, np.where(pattern == _PLAIN, 1.0 + r[..., 3], 1.0))
    angle = np.where((r[..., 4] < 0.5) | (pattern == _BRICKS), 0.0, np.pi * r[..., 5])
    grout = (pattern == _TILES) | (pattern == _BRICKS)
    duty = np.where(
        grout, 0.06 + 0.1 * r[..., 6], np.where(pattern == _CHECKER, 0.5, 0.3 + 0.4 * r[..., 6])
    )
    noise_cell = np.where(room, 0.35, 0.14) * 3.0 ** r[..., 7]

    luminance = 0.2 + 0.6 * r[..., 8]
    step = np.where(luminance > 0.5, -1.0, 1.0) * (0.28 + 0.25 * r[..., 9])
    colour = np.clip(luminance[..., None] + 0.2 * signs[..., 0:3], 0.08, 0.92)
    other = np.clip((luminance + step)[..., None] + 0.2 * signs[..., 3:6], 0.05, 0.95)
    other = np.where((pattern == _PLAIN)[..., None], 0.4 * colour + 0.6 * other, other)
    shade = np.where(room, 1.0, 0.8 + 0.3 * r[..., 0])[..., None]

    parameters = np.empty((*shape, len(FIELDS)))

    def put(name: str, value: Array | float) -> None:
        parameters[..., _COLUMN[name]] = value

    put("u_from_s", np.cos(angle) / (aspect * period))
    put("u_from_t", -np.sin(angle) / (aspect * period))
    put("v_from_s", np.sin(angle) / period)
    put("v_from_t", np.cos(angle) / period)
    put("u_offset", 64 * r[..., 0])
    put("v_offset", 64 * r[..., 1])
    put("shear", _PATTERNS[pattern, 3])
    put("u_duty", np.where(pattern == _BRICKS, duty / 2, duty))
    put("v_duty", duty)
    for column, name in enumerate(("first", "second", "both")):
        put(name, _PATTERNS[pattern, column])
    put("noise_scale", period / noise_cell)
    put("noise_start", np.floor(_LATTICE * _LATTICE * r[..., 1]))
    put("blotches", np.where(pattern == _PLAIN, 1.0, np.where(r[..., 10] < 0.3, 0.5, 0.0)))
    put("sharpness", 1.2 + 2.3 * r[..., 11])
    put("relief", 0.35 + 0.35 * r[..., 12])
    put("cells", np.where(pattern == _PLAIN, 0.0, 0.15 + 0.3 * r[..., 13]))
    parameters[..., _COLUMN["red"] : _COLUMN["blue"] + 1] = shade * colour
    parameters[..., _COLUMN["red_step"] : _COLUMN["blue_step"] + 1] = shade * (other - colour)
    parameters[..., _COLUMN["red_tint"] : _COLUMN["blue_tint"] + 1] = 0.22 * signs[..., 6:9]
    put("tile", -1.0)
    put("texels", 1.0)
    put("shade", 1.0)
    return parameters


def put_tiles(rng: np.random.Generator, parameters: Array, share: float) -> None:
    """Replaces the patterns of `share` of the surfaces of `parameters` [K,6,len(FIELDS)], in place,
    by natural tiles.

    As with patterns, the room's faces are drawn one by one, those of another solid are alike.
    """
    shape = parameters.shape[:2]
    chosen, tile, size, shade = rng.random((*shape, 4)).transpose(2, 0, 1).copy()
    for values in (chosen, tile, size):
        values[1:] = values[1:, :1]
    natural = chosen < share
    parameters[..., _COLUMN["tile"]] = np.where(natural, np.floor(tile * TILES), -1.0)
    parameters[..., _COLUMN["texels"]] = 25.0 * 3.2**size
    parameters[..., _COLUMN["shade"]] = 0.7 + 0.6 * shade


def albedo(
    surfaces: Tensor, s: Tensor, t: Tensor, slope_s: Tensor, slope_t: Tensor, width: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Red, green and blue reflectance, each shaped like `s`.

    `surfaces` [len(FIELDS), ...] holds each pixel's surface parameters; (`s`, `t`) is the place on
    the surface in metres; `width` the pixel's width there across the line of sight in metres, which
    the surface's tilt stretches to width * sqrt(1 + slope^2) along each direction.
    """
    p = dict(zip(FIELDS, surfaces.unbind(0), strict=True))
    u = p["u_from_s"] * s + p["u_from_t"] * t + p["u_offset"]
    v = p["v_from_s"] * s + p["v_from_t"] * t + p["v_offset"]
    u_width = _footprint(p["u_from_s"], p["u_from_t"], slope_s, slope_t, width)
    v_width = _footprint(p["v_from_s"], p["v_from_t"], slope_s, slope_t, width)
    widest = torch.maximum(u_width, v_width)

    row = v.floor()
    shifted = u + p["shear"] * row
    across, along = _pulses(shifted, p["u_duty"], u_width), _pulses(v, p["v_duty"], v_width)
    pattern = across * p["first"] + along * p["second"] + across * along * p["both"]
    start = p["noise_start"].int()
    cell_index = shifted.floor().int() + row.int() * _LATTICE + start
    cell = _look_up(_random_table(s.device), cell_index)[0]
    brightness = 1.0 + p["cells"] * (cell * _fade(widest))

    scale = p["noise_scale"]
    noise, coarse = _noise(u * scale, v * scale, widest * scale, start)
    blotch = (noise * p["sharpness"] + 0.5).clamp_(0.0, 1.0)
    pattern = pattern + p["blotches"] * (blotch - pattern * 0.5)
    brightness = (brightness + p["relief"] * noise).clamp_min_(0.2)
    red, green, blue = (
        (p[name] + p[f"{name}_step"] * pattern + p[f"{name}_tint"] * coarse) * brightness
        for name in ("red", "green", "blue")
    )
    tile = p["tile"]
    natural = tile >= 0
    if not bool(natural.any()):
        return red, green, blue
    texels = p["texels"]
    footprint = (u_width + v_width) * 0.5 * texels
    tiles = tile_colours(u * texels, v * texels, footprint, tile.clamp_min(0).int())
    red, green, blue = (
        torch.where(natural, tiled * (p["shade"] + p[f"{name}_tint"]), painted)
        for name, tiled, painted in zip(
            ("red", "green", "blue"), tiles, (red, green, blue), strict=True
        )
    )
    return red, green, blue


def _footprint(
    from_s: Tensor, from_t: Tensor, slope_s: Tensor, slope_t: Tensor, width: Tensor
) -> Tensor:
    slope = from_s * slope_s + from_t * slope_t
    return (from_s * from_s + from_t * from_t + slope * slope).sqrt_().mul_(width)


def _pulses(x: Tensor, duty: Tensor, width: Tensor) -> Tensor:
    """Mean over [x - width/2, x + width/2] of a train that is 1 on [n, n + duty) for every integer
    n and else 0."""
    half = width * 0.5
    start, end = x - half, x + half
    start_floor, end_floor = start.floor(), end.floor()
    before = start_floor * duty + torch.minimum(start.sub_(start_floor), duty)
    after = end_floor * duty + torch.minimum(end.sub_(end_floor), duty)
    return after.sub_(before).div_(width)


def _fade(width: Tensor) -> Tensor:
    """Weight of detail of wavelength about 2 under a footprint of `width`: 1 while it is resolved,
    0 past the limit."""
    return (1.6 - width * 1.6).clamp_(0.0, 1.0)


def _noise(u: Tensor, v: Tensor, width: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
    """Value noise around 0: all octaves together (standard deviation about 0.3), and a coarse one
    of its own."""
    coarse = _value_noise(v * 0.5, u * 0.5, start + 9973)
    total = torch.zeros_like(u)
    for octave, weight in enumerate(_OCTAVES):
        total += _value_noise(u, v, start + octave * 4099).mul_(_fade(width).mul_(weight))
        # a turn by the 3-4-5 triangle hides the lattice's direction, its doubling makes the next
        # octave
        u, v = u * 1.6 - v * 1.2, u * 1.2 + v * 1.6
        width = width * 2.0
    return total, coarse


def _value_noise(u: Tensor, v: Tensor, start: Tensor) -> Tensor:
    column, row = u.floor(), v.floor()
    x, y = u - column, v - row
    x, y = x * x * (3.0 - x * 2.0), y * y * (3.0 - y * 2.0)
    corner = column.int().add_(row.int().mul_(_LATTICE)).add_(start)
    value, by_x, by_y, by_both = _look_up(_bilinear_table(corner.device), corner).unbind(0)
    return value + x * by_x + y * (by_y + x * by_both)


def _look_up(table: Tensor, index: Tensor) -> Tensor:
    """Columns of `table` [F,_LATTICE^2], repeated for ever, at int32 `index` [...] -> [F,...]."""
    return table.index_select(1, (index & (_LATTICE * _LATTICE - 1)).flatten()).view(
        -1, *index.shape
    )


@lru_cache(maxsize=8)
def _random_table(device: torch.device) -> Tensor:
    """Fixed random numbers in [-1, 1), [1,_LATTICE^2]."""
    generator = torch.Generator().manual_seed(20_240_517)
    return (torch.rand(1, _LATTICE * _LATTICE, generator=generator) * 2 - 1).to(device)


@lru_cache(maxsize=8)
def _bilinear_table(device: torch.device) -> Tensor:
    """Coefficients [4,_LATTICE^2] of 1, x, y and xy between a lattice point and its right and lower
    neighbours."""
    here = _random_table(device)
    right, below, across = here.roll(-1, 1), here.roll(-_LATTICE, 1), here.roll(-_LATTICE - 1, 1)
    return torch.cat([here, right - here, below - here, here - right - below + across])
