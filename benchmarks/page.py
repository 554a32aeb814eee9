"""How smoothly the page turns a scene of a million points: frames a second of the slow orbit in
Chromium.

    python -m benchmarks.page --artifact build/demo/artifact [--pictures 112] [--seconds 10]

A service in this process reconstructs a synthetic walk; headless Chromium, which draws with the
processor (SwiftShader), opens its result at 1280 x 800 pixels, shows every point that the page
holds and presses "turn". A frame is one drawing of the view. Prints one line for every second, then
the whole and one line of JSON.
"""

from __future__ import annotations

import argparse
import io
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import torch
from PIL import Image
from playwright.sync_api import Page

from benchmarks.chromium import chromium_page, processor_seconds
from benchmarks.served import served
from scenes.synthetic.walk import walk

_SIDE = 96  # pixels of a picture, all of which become points
# the page says after every drawing how many points it drew
_WATCH = """() => {
  window.drawings = [];
  const said = document.querySelector("#drawn");
  new MutationObserver(() => window.drawings.push([performance.now(), said.textContent]))
    .observe(said, { childList: true });
}"""
_SETTLED = """stopped => {
  const [at, said] = window.drawings.at(-1);
  return at > stopped && !said.includes("moves");
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--artifact", type=Path, required=True)
    parser.add_argument("--pictures", type=int, default=112, help=f"of {_SIDE} x {_SIDE} pixels")
    parser.add_argument("--seconds", type=int, default=10)
    options = parser.parse_args()
    with served(options.artifact) as (address, _), chromium_page() as page:
        id = _reconstructed(address, options.pictures)
        page.goto(f"{address}/#{id}")
        found = _turned(page, options.seconds)
    for second, (frames, drawn) in enumerate(found["each_second"], 1):
        print(f"second {second:2}: {frames:3} frames, {drawn:,} points")
    print(
        f"{found['points']:,} points: {found['frames_a_second']:.1f} frames a second, slowest "
        f"{found['slowest_ms']:.0f} ms, {found['processor_ms_a_frame']:.0f} ms of processor time a "
        f"frame; {found['drawn']:,} points drawn while turning; all of them "
        f"{found['settled_ms']:.0f} ms after the turning stopped"
    )
    print(json.dumps(found))


def _reconstructed(address: str, pictures: int) -> str:
    scene = walk(0, pictures, pictures, _SIDE)
    files = []
    for index, pixels in enumerate((scene.images.movedim(1, -1) * 255).round().to(torch.uint8)):
        buffer = io.BytesIO()
        Image.fromarray(pixels.numpy()).save(buffer, "PNG")
        files.append(("images", (f"{index:03}.png", buffer.getvalue(), "image/png")))
    with httpx.Client(base_url=address, trust_env=False, timeout=600) as client:
        answer = client.post("/reconstruct", files=files)
        answer.raise_for_status()
        return str(answer.json()["id"])


def _turned(page: Page, seconds: int) -> dict[str, Any]:
    """What the page draws in so many seconds of turning, after five in which it finds its pace."""
    page.locator("#confidence").fill("0")
    page.wait_for_function("/^[0-9,]+ drawn/.test(document.querySelector('#drawn').textContent)")
    page.wait_for_timeout(3000)
    points = _points(page.locator("#drawn").inner_text())
    page.locator("#turn").click()
    page.wait_for_timeout(5000)
    page.evaluate(_WATCH)
    before = processor_seconds()
    page.wait_for_timeout(1000 * seconds)
    used = processor_seconds() - before
    drawings: list[tuple[float, str]] = page.evaluate("window.drawings.slice()")
    stopped = page.evaluate("document.querySelector('#turn').click() ?? performance.now()")
    page.wait_for_function(_SETTLED, arg=stopped)
    settled = page.evaluate("window.drawings.at(-1)[0]")
    times = [at for at, _ in drawings]
    if len(times) < 2:
        raise SystemExit(f"not two frames in {seconds} s: other programs have the processor")
    each = []
    for second in range(seconds):
        within = [text for at, text in drawings if second <= (at - times[0]) / 1000 < second + 1]
        each.append((len(within), _points(within[-1]) if within else 0))
    return {
        "points": points,
        "frames_a_second": 1000 * (len(times) - 1) / (times[-1] - times[0]),
        "processor_ms_a_frame": 1000 * used / len(times),
        "slowest_ms": max(b - a for a, b in pairwise(times)),
        "drawn": _points(drawings[-1][1]),
        "settled_ms": settled - stopped,
        "each_second": each,
    }


def _points(said: str) -> int:
    """How many points are drawn, as the page says it."""
    return int(said.split()[0].replace(",", ""))


if __name__ == "__main__":
    main()
