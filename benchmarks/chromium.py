"""Headless Chromium, which draws with the processor (SwiftShader), and what it takes of that."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

_FLAGS = [
    "--no-sandbox",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
]
_PATIENCE_MS = 120_000


@contextmanager
def chromium_page() -> Iterator[Page]:
    """An empty page of 1280 x 800 pixels. Raises SystemExit where there is no Chromium."""
    found = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
    if found is None:
        raise SystemExit("there is no Chromium on the PATH")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=_FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.set_default_timeout(_PATIENCE_MS)
        yield page
        browser.close()


def processor_seconds() -> float:
    """Of all processes that this one has started, the browser's among them (Linux)."""
    parents, used = {}, {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended
            pid, rest = stat.parent.name, stat.read_text().rpartition(")")[2].split()
            parents[pid], used[pid] = rest[1], int(rest[11]) + int(rest[12])
    own, ours = str(os.getpid()), set()
    for pid in used:
        line = [pid]
        while line[-1] in parents and line[-1] != own:
            line.append(parents[line[-1]])
        if line[-1] == own:
            ours.update(line[:-1])
    return sum(used[pid] for pid in ours) / os.sysconf("SC_CLK_TCK")
