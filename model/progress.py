"""Progress on standard error: a bar on a terminal, a line for every tenth elsewhere."""

from __future__ import annotations

import operator
import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")


def track(items: Iterable[Item], label: str) -> Iterator[Item]:
    """Yield `items`, reporting how many have been taken. The total is shown when `items` knows its
    length."""
    total = operator.length_hint(items)
    if sys.stderr.isatty():
        yield from tqdm(items, desc=label, total=total or None, file=sys.stderr, leave=False)
        return
    step = max(1, total // 10) if total else 50
    for count, item in enumerate(items, start=1):
        yield item
        if count % step == 0 or count == total:
            print(
                f"{label}: {count}/{total}" if total else f"{label}: {count}",
                file=sys.stderr,
                flush=True,
            )
