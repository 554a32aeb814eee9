"""Lines of cells as text in columns."""

from __future__ import annotations

from collections.abc import Sequence


def right_aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    """One line of text for each of `lines`, all of as many cells, two spaces between columns."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
