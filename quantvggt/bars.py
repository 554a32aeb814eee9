"""Progress bars on standard error, one for each stage of a reconstruction."""

from __future__ import annotations

import sys

from tqdm import tqdm


class Bars:
    """One bar at a time: when another stage begins, the one before is full. Use it as a context."""

    def __init__(self) -> None:
        self._stage: str | None = None
        self._bar: tqdm | None = None

    def show(self, stage: str, share: float) -> None:
        """`share` of `stage` is done; it never goes back."""
        if stage != self._stage:
            self._finish()
            self._stage = stage
            self._bar = tqdm(
                total=100,
                bar_format="{desc:<12}{percentage:3.0f}% |{bar}| {elapsed}",
                file=sys.stderr,
            )
            self._bar.set_description_str(stage, refresh=False)
        assert self._bar is not None
        done = max(self._bar.n, round(100 * share))
        if done != self._bar.n or not done:
            self._bar.n = done
            self._bar.refresh()

    def __enter__(self) -> Bars:
        return self

    def __exit__(self, *exception: object) -> None:
        if exception[0] is None:
            self._finish()
        elif self._bar is not None:
            self._bar.close()

    def _finish(self) -> None:
        if self._bar is not None:
            self._bar.n = 100
            self._bar.refresh()
            self._bar.close()
            self._bar = None
