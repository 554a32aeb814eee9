"""The documentation of the API in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from service.exports.records import EXPORTS
from tests.service.http.web.watching import watched
from tests.service.running import Running, Serve

SAMPLES = Path(__file__).parents[4] / "service" / "samples" / "rooms"


@pytest.fixture(scope="module")
def service(serve: Serve) -> Running:
    return serve()


@pytest.fixture
def page(browser: Browser, service: Running) -> Iterator[Page]:
    with watched(browser, f"http://127.0.0.1:{service.port}/docs") as page:
        yield page


def test_every_operation_is_listed(page: Page, service: Running) -> None:
    description = service.client.get("/openapi.json").json()
    operations = [operation for path in description["paths"].values() for operation in path]
    assert len(operations) > len(EXPORTS)
    expect(page.locator(".opblock")).to_have_count(len(operations))
    for tag in description["tags"]:
        expect(page.locator(f"#operations-tag-{tag['name']}")).to_contain_text(tag["description"])


def test_a_link_to_an_operation_opens_it_with_an_example_beside_every_option(page: Page) -> None:
    page.goto(f"{page.url}#/Files/downloadPoints")
    page.reload()
    options = page.locator(".opblock.is-open .parameters td.parameters-col_description")
    expect(options.first).to_be_visible()
    assert options.count() > 8
    for option in options.all():
        expect(option).to_contain_text("For example: ")


def test_two_pictures_can_be_reconstructed_from_the_page(page: Page) -> None:
    page.locator("#operations-Reconstruct-reconstruct .opblock-summary-control").click()
    page.get_by_role("button", name="Try it out").click()
    row = page.locator("tr[data-property-name=images]")
    for index in range(2):
        row.get_by_role("button", name="Add").click()
        row.locator("input[type=file]").nth(index).set_input_files(SAMPLES / f"0{index}.png")
    page.get_by_role("button", name="Execute").click()
    expect(
        page.locator(".live-responses-table tr.response .response-col_status").first
    ).to_contain_text("200")
    description = page.locator(".live-responses-table tr.response .response-col_description").first
    expect(description).to_contain_text("succeeded")


def test_the_page_itself_leads_here_and_this_leads_back(page: Page) -> None:
    page.get_by_role("link", name="Pictures to 3D").click()
    expect(page.locator("#start")).to_be_visible()
    page.get_by_role("link", name="API documentation").click()
    expect(page.locator(".opblock").first).to_be_visible()
