"""HEIC files that ask for far more than they hold, put together box by box (ISO/IEC 14496-12 and
23008-12)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from tests.service.pictures import encode, make_picture

TILE = 64  # pixels a side


@dataclass(frozen=True)
class Grid:
    """An item that is `rows` x `columns` times the item `tile`, cut to `size` pixels a side. Its
    header says that it has `stated` pixels a side."""

    tile: int
    rows: int
    columns: int
    size: int
    stated: int = TILE


def heic(grids: Sequence[Grid]) -> bytes:
    """Item 1 is a picture of 64 x 64 pixels, items 2 and so on are `grids`; the last is shown."""
    plain = encode(make_picture(TILE, TILE), "HEIF")
    configuration, coded = _box_of(plain, b"hvcC"), _box_of(plain, b"mdat")[8:]
    count = len(grids) + 1
    kinds = [b"hvc1"] + [b"grid"] * len(grids)
    entries = b"".join(
        _full(b"infe", struct.pack(">HH4sB", number + 1, 0, kind, 0), version=2)
        for number, kind in enumerate(kinds)
    )
    references = b"".join(
        _box(
            b"dimg",
            struct.pack(">HH", number + 2, grid.rows * grid.columns)
            + struct.pack(">H", grid.tile) * (grid.rows * grid.columns),
        )
        for number, grid in enumerate(grids)
    )
    sizes = [TILE] + [grid.stated for grid in grids]
    properties = [configuration] + [
        _full(b"ispe", struct.pack(">II", size, size)) for size in sizes
    ]
    owned = [[1, 2]] + [[number + 3] for number in range(len(grids))]
    associations = struct.pack(">I", count) + b"".join(
        struct.pack(">HB", number + 1, len(mine)) + bytes(0x80 | index for index in mine)
        for number, mine in enumerate(owned)
    )
    layouts = [
        struct.pack(">BBBBII", 0, 1, grid.rows - 1, grid.columns - 1, grid.size, grid.size)
        for grid in grids
    ]

    def meta(begin: int) -> bytes:
        places = [struct.pack(">HHHHII", 1, 0, 0, 1, begin, len(coded))]
        for number, layout in enumerate(layouts):
            offset = sum(map(len, layouts[:number]))
            places.append(struct.pack(">HHHHII", number + 2, 1, 0, 1, offset, len(layout)))
        return _full(
            b"meta",
            _full(b"hdlr", struct.pack(">I4s13x", 0, b"pict")),
            _full(b"pitm", struct.pack(">H", count)),
            _full(b"iinf", struct.pack(">H", count), entries),
            _full(b"iref", references),
            _box(b"iprp", _box(b"ipco", *properties), _full(b"ipma", associations)),
            _full(b"iloc", struct.pack(">BBH", 0x44, 0, count), *places, version=1),
            _box(b"idat", *layouts),
        )

    kind = _box(b"ftyp", b"heic\0\0\0\0mif1heic")
    begin = len(kind) + len(meta(0)) + 8
    return kind + meta(begin) + _box(b"mdat", coded)


def _box(kind: bytes, *content: bytes) -> bytes:
    body = b"".join(content)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def _full(kind: bytes, *content: bytes, version: int = 0) -> bytes:
    return _box(kind, bytes([version, 0, 0, 0]), *content)


def _box_of(content: bytes, kind: bytes) -> bytes:
    at = content.index(kind) - 4
    return content[at : at + int.from_bytes(content[at : at + 4], "big")]
