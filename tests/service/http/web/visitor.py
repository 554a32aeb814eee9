"""What tests of the page do as its visitors do."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from tests.service.http.web.watching import watched
from tests.service.running import Running

SAMPLES = Path(__file__).parents[4] / "service" / "samples" / "rooms"


@contextmanager
def visited(browser: Browser, service: Running) -> Iterator[Page]:
    """The page of a fresh visitor; see `watched`."""
    with watched(
        browser, f"http://127.0.0.1:{service.port}/", viewport={"width": 480, "height": 480}
    ) as page:
        expect(page.locator("#model")).to_be_visible()
        yield page


def pictures(count: int) -> list[dict]:
    return [
        {
            "name": f"{i}.png",
            "mimeType": "image/png",
            "buffer": (SAMPLES / f"0{i}.png").read_bytes(),
        }
        for i in range(count)
    ]


def view(page: Page, canvas: str = "#view") -> np.ndarray:
    """What the canvas shows."""
    page.wait_for_timeout(300)
    picture = Image.open(io.BytesIO(page.locator(canvas).screenshot()))
    return np.asarray(picture.convert("RGB"), float)


def changed(page: Page, before: np.ndarray, least: float, canvas: str = "#view") -> np.ndarray:
    """What the canvas shows once it differs from `before` by `least` grey levels on average."""
    for _ in range(20):
        after = view(page, canvas)
        if np.abs(after - before).mean() > least:
            return after
    raise AssertionError("the view did not change")


def reconstructed(page: Page, count: int = 2) -> None:
    page.set_input_files("#files", pictures(count))
    page.locator("#go").click()
    expect(page.locator("#result")).to_be_visible()
