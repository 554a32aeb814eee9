"""Every state of the page by the rules of axe-core, wide and narrow, light and dark."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.service.http.web.visitor import pictures, reconstructed
from tests.service.http.web.watching import watched
from tests.service.running import Running, Serve

AXE = Path(__file__).parents[4] / "build" / "axe" / "node_modules" / "axe-core" / "axe.min.js"
pytestmark = pytest.mark.skipif(
    not AXE.exists(), reason="axe-core is not installed: run make build/axe/node_modules"
)
RULES = """async () => {
  const { violations } = await axe.run(document, { resultTypes: ["violations"] });
  return violations.flatMap(one => one.nodes.map(node => `${one.id}: ${node.target.join(" ")}`));
}"""


@pytest.fixture(scope="module")
def service(serve: Serve) -> Running:
    return serve()


@pytest.fixture(params=[(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")], ids=str)
def page(browser: Browser, service: Running, request: pytest.FixtureRequest) -> Iterator[Page]:
    width, scheme = request.param
    viewport = {"width": width, "height": 844}
    address = f"http://127.0.0.1:{service.port}/"
    with watched(browser, address, viewport=viewport, color_scheme=scheme) as page:
        expect(page.locator("#model")).to_be_visible()
        page.evaluate(AXE.read_text("utf-8"))
        yield page


def check(page: Page, state: str) -> None:
    assert page.evaluate(RULES) == [], state
    width = page.viewport_size["width"]  # type: ignore[index]
    assert page.evaluate("document.documentElement.scrollWidth") <= width, state


def test_no_state_of_the_page_breaks_a_rule(page: Page) -> None:
    check(page, "empty")
    note = {"name": "note.txt", "mimeType": "text/plain", "buffer": b"hello"}
    page.set_input_files("#files", [*pictures(2), note])
    page.get_by_text("Options", exact=True).click()
    check(page, "pictures chosen, one refused, options open")
    page.get_by_text("Options", exact=True).click()
    page.locator("#go").click()
    expect(page.locator("#count")).to_contain_text("points chosen: files")
    for image in page.locator("#pictures img").all():
        image.scroll_into_view_if_needed()
    check(page, "result")
    page.get_by_role("button", name="Look from the camera of 1.png").click()
    page.get_by_label("Colours").select_option("by confidence")
    page.get_by_role("button", name="Measure", exact=True).click()
    check(page, "from a camera, measuring")
    page.get_by_role("button", name="depth of 0.png").click()
    check(page, "larger")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="New reconstruction").click()
    reconstructed(page, 1)
    page.get_by_role("button", name="New reconstruction").click()
    expect(page.locator("#earlier-list li")).to_have_count(2)
    for mark in page.get_by_label("compare", exact=True).all():
        mark.check()
    check(page, "earlier results")
    page.get_by_role("button", name="Compare the two").click()
    expect(page.locator("#about-right")).not_to_be_empty()
    check(page, "side by side")
    page.get_by_role("button", name="Back", exact=True).click()
    broken = {"name": "a.jpg", "mimeType": "image/jpeg", "buffer": b"nothing"}
    page.set_input_files("#files", broken)
    page.locator("#go").click()
    expect(page.get_by_role("alert").filter(has_text="a.jpg")).to_be_visible()
    check(page, "problem")
