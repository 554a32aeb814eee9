"""What one frame of the page's view costs, by how many points it draws.

    python -m benchmarks.viewer [--points 20000 75000 150000 1000000]

Headless Chromium, which draws with the processor (SwiftShader), loads the page's own `viewer.js`
with a cloud of a million points on the faces of a box, 1000 x 560 pixels, and draws it again and
again. Prints the processor time of all of the browser's processes a frame, which other programs on
the machine hardly change, and the frames a second that one core would so have time for (Linux).
"""

from __future__ import annotations

import argparse
import json

from playwright.sync_api import Page

from benchmarks.chromium import chromium_page, processor_seconds
from service.http.routes.page import WEB

_CLOUD = 1_000_000
_SECONDS = 2.0  # of processor time for each number of points, about
_BLANK = "<div style='width:1000px'><canvas style='width:1000px;height:560px'></canvas></div>"
_SHOW = """async count => {
  const { Viewer } = await import("./viewer.js");
  const position = new Float32Array(3 * count), color = new Uint8Array(3 * count).fill(128);
  for (let i = 0; i < count; i++) {
    const face = i % 6, axis = face % 3;
    position[3 * i + axis] = face < 3 ? 1 : -1;
    position[3 * i + (axis + 1) % 3] = 2 * Math.random() - 1;
    position[3 * i + (axis + 2) % 3] = 2 * Math.random() - 1;
  }
  const viewer = window.viewer = new Viewer(document.querySelector("canvas"));
  viewer.draw = () => {};
  viewer.show({ position, color, count }, [{
    extrinsic: [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]], original_size: { width: 10, height: 10 },
    intrinsic: [[10, 0, 5], [0, 10, 5], [0, 0, 1]],
  }]);
  viewer.choose(Uint32Array.from({ length: count }, (_, index) => index));
  viewer.moving = true;
  viewer.pace = viewer.settle = () => {};
}"""
# reading a pixel waits until everything is drawn
_DRAW = """([points, frames]) => {
  const { viewer } = window, gl = viewer.renderer.getContext(), pixel = new Uint8Array(4);
  viewer.smooth = points;
  for (let frame = 0; frame < frames; frame++) {
    viewer.render(performance.now());
    gl.readPixels(0, 0, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, pixel);
  }
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--points", type=int, nargs="+", default=[20000, 75000, 150000, _CLOUD])
    options = parser.parse_args()
    found = {}
    with chromium_page() as page:
        page.route("http://page/*", lambda route: route.fulfill(**_file(route.request.url)))
        page.goto("http://page/")
        page.evaluate(_SHOW, _CLOUD)
        for points in options.points:
            found[points] = cost = _cost(page, points)
            print(f"{points:9,} points: {1000 * cost:6.0f} ms a frame, {1 / cost:5.1f} a second")
    print(json.dumps(found))


def _cost(page: Page, points: int) -> float:
    """Seconds of processor time that a frame of so many points takes."""
    frames = 1
    while True:
        before = processor_seconds()
        page.evaluate(_DRAW, [points, frames])
        used = processor_seconds() - before
        if used >= _SECONDS / 2:
            return used / frames
        frames *= 4


def _file(url: str) -> dict[str, str]:
    name = url.rpartition("/")[2]
    if not name:
        return {"content_type": "text/html", "body": _BLANK}
    return {"content_type": "text/javascript", "body": (WEB / name).read_text()}


if __name__ == "__main__":
    main()
