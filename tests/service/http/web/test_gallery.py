"""Earlier results on the page: whose they are, their names, and two of them side by side."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.service.http.web.visitor import changed, reconstructed, view, visited
from tests.service.running import Running, Serve


@pytest.fixture(scope="module")
def service(serve: Serve) -> Running:
    return serve()


@pytest.fixture
def page(browser: Browser, service: Running) -> Iterator[Page]:
    with visited(browser, service) as page:
        reconstructed(page)
        page.get_by_role("button", name="New reconstruction").click()
        yield page


def test_a_browser_sees_its_own_results_only_but_opens_anybodys_link(
    page: Page, browser: Browser, service: Running
) -> None:
    expect(page.locator("#earlier-list li")).to_have_count(1)
    page.locator("#earlier-list .face").click()
    expect(page.locator("#result")).to_be_visible()
    with visited(browser, service) as other:
        expect(other.locator("#earlier")).to_be_hidden()
        other.goto(page.url)
        expect(other.locator("#result")).to_be_visible()
        assert (
            other.evaluate(
                "() => import('/web/api.js')"
                ".then(api => api.remove('reconstructions/' + location.hash.slice(1)))"
                ".then(answer => answer.status)"
            )
            == 403
        )
    page.reload()
    expect(page.locator("#result")).to_be_visible()


def test_in_a_shared_gallery_everybody_sees_everything(browser: Browser, serve: Serve) -> None:
    shared = serve(shared_gallery=True)
    with visited(browser, shared) as first:
        reconstructed(first)
    with visited(browser, shared) as second:
        expect(second.locator("#earlier-list li")).to_have_count(1)
        expect(second.locator("#whose")).to_have_text("Results of everybody who uses this service.")


def test_a_name_is_kept_and_a_result_deleted_when_that_is_meant(page: Page) -> None:
    card = page.locator("#earlier-list li").first
    card.get_by_label("Name of the result").fill("kitchen, morning")
    with page.expect_response(lambda answer: answer.request.method == "PATCH") as named:
        page.keyboard.press("Tab")
    assert named.value.status == 204
    page.reload()
    expect(card.get_by_label("Name of the result")).to_have_value("kitchen, morning")
    expect(card.get_by_role("button", name="Open kitchen, morning")).to_be_visible()
    assert card.locator("img").evaluate("image => image.decode().then(() => image.naturalWidth)")
    card.get_by_role("button", name="Delete").click()
    expect(card).to_be_visible()
    card.get_by_role("button", name="Really delete?").click()
    expect(page.locator("#earlier")).to_be_hidden()
    page.reload()
    expect(page.locator("#model")).to_be_visible()
    expect(page.locator("#earlier")).to_be_hidden()


def test_two_results_turn_together(page: Page) -> None:
    page.set_viewport_size({"width": 900, "height": 800})
    reconstructed(page, 3)
    page.get_by_role("button", name="New reconstruction").click()
    expect(page.locator("#earlier-list li")).to_have_count(2)
    expect(page.get_by_role("button", name="Compare the two")).to_be_disabled()
    for mark in page.get_by_label("compare", exact=True).all():
        mark.check()
    page.get_by_role("button", name="Compare the two").click()
    expect(page.locator("#about-left")).to_contain_text("pictures")
    right = view(page, "#view-right")
    box = page.locator("#view-left").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 100, box["y"] + 100)
    page.mouse.down()
    page.mouse.move(box["x"] + 220, box["y"] + 130, steps=3)
    page.mouse.up()
    changed(page, right, 2, "#view-right")
    page.get_by_role("button", name="Back", exact=True).click()
    expect(page.locator("#start")).to_be_visible()
