"""A finished reconstruction on the page: what it says, its pictures and maps, and its files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from service.exports.records import EXPORTS
from tests.service.http.web.visitor import reconstructed, visited
from tests.service.running import Running, Serve, Tight


@pytest.fixture(scope="module")
def service(serve: Serve) -> Running:
    return serve()


@pytest.fixture
def page(browser: Browser, service: Running) -> Iterator[Page]:
    with visited(browser, service) as page:
        yield page


def size(image: Locator) -> tuple[int, int]:
    """Pixels of an image once it is there."""
    image.scroll_into_view_if_needed()
    expect(image).to_have_js_property("complete", True)
    expect(image).not_to_have_js_property("naturalWidth", 0)
    found = image.evaluate("image => [image.naturalWidth, image.naturalHeight]")
    return found[0], found[1]


def test_every_picture_stands_beside_its_depth_and_confidence_at_one_shape(page: Page) -> None:
    reconstructed(page, 3)
    images = page.locator("#pictures img")
    expect(images).to_have_count(9)
    assert page.locator("#pictures figcaption").all_inner_texts()[:2] == ["picture", "depth"]
    for image in images.all():
        assert size(image) == (320, 320)
        box = image.bounding_box()
        assert box is not None
        assert box["width"] == pytest.approx(box["height"], abs=1)


def test_a_picture_is_seen_larger_beside_its_depth_and_arrow_keys_go_on(page: Page) -> None:
    reconstructed(page)
    page.get_by_role("button", name="depth of 0.png").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("0.png, 1 of 2")
    assert [size(image) for image in dialog.locator("img").all()] == [(384, 384), (384, 384)]
    page.keyboard.press("ArrowRight")
    expect(dialog).to_contain_text("1.png, 2 of 2")
    dialog.get_by_role("button", name="confidence", exact=True).click()
    expect(dialog.get_by_alt_text("confidence of 1.png")).to_be_visible()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()


def test_each_file_says_what_it_is_for_and_is_the_one_that_the_service_gives(page: Page) -> None:
    reconstructed(page)
    said = page.locator("#downloads").inner_text()
    for export in EXPORTS:
        if export.use and not export.needs:
            assert export.use in said
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Cameras (JSON)").click()
    saved = Path(waiting.value.path())
    assert waiting.value.suggested_filename == "cameras.json"
    assert len(json.loads(saved.read_text())["cameras"]) == 2


def test_the_link_is_copied_or_shown_to_be_copied_by_hand(page: Page) -> None:
    reconstructed(page)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy the link").click()
    expect(page.locator("#said")).to_have_text("The link is copied.")
    assert page.evaluate("navigator.clipboard.readText()") == page.url
    page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(); }")
    page.get_by_role("button", name="Copy the link").click()
    expect(page.get_by_label("Link to this result")).to_have_value(page.url)


def test_what_was_given_up_for_want_of_memory_stands_above_the_result(
    browser: Browser, serve: Serve
) -> None:
    with visited(browser, serve(Tight)) as page:
        reconstructed(page, 1)
        expect(page.get_by_role("note")).to_contain_text("at 50% of its usual resolution")
