"""Names of pictures: when two are the same, and how to tell them apart."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath


def comparable(name: str) -> str:
    """The name with letters composed (Unicode NFC): systems differ in how they store an accent."""
    return unicodedata.normalize("NFC", name)


def comparable_as_files(name: str) -> str:
    """The same without regard to case, as many file systems have it."""
    return comparable(name).casefold()


def distinct(names: Sequence[str], comparable: Callable[[str], str] = comparable) -> list[str]:
    """The same names, where one was there before with a number: a.jpg, a-2.jpg."""
    taken = set(map(comparable, names))
    seen: set[str] = set()
    found = []
    for name in names:
        path, number = PurePosixPath(name), 2
        while comparable(name) in seen:
            numbered = str(path.with_name(f"{path.stem}-{number}{path.suffix}"))
            if comparable(numbered) not in taken:
                name = numbered
            number += 1
        seen.add(comparable(name))
        taken.add(comparable(name))
        found.append(name)
    return found
