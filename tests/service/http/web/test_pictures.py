"""The visitor's own pictures before they are sent."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from tests.service.http.web.visitor import pictures, visited
from tests.service.pictures import encode
from tests.service.running import Running, Serve


@pytest.fixture(scope="module")
def service(serve: Serve) -> Running:
    return serve(max_images=3, max_image_bytes=300_000)


@pytest.fixture
def page(browser: Browser, service: Running) -> Iterator[Page]:
    with visited(browser, service) as page:
        yield page


def file(name: str, content: bytes, kind: str = "") -> dict:
    return {"name": name, "mimeType": kind, "buffer": content}


def names(page: Page) -> list[str]:
    return page.locator("#chosen .name").all_inner_texts()


def test_a_thumbnail_is_the_whole_picture(page: Page) -> None:
    half = Image.new("RGB", (540, 960), "red")
    half.paste("blue", (0, 480, 540, 960))
    page.set_input_files("#files", file("tall.jpg", encode(half, "JPEG"), "image/jpeg"))
    expect(page.locator("#chosen canvas")).to_be_visible()
    shot = page.locator("#chosen canvas").screenshot()
    with Image.open(io.BytesIO(shot)) as seen:
        seen = seen.convert("RGB")
        assert seen.width / seen.height == pytest.approx(540 / 960, rel=0.05)
        red = seen.getpixel((seen.width // 2, seen.height // 8))
        blue = seen.getpixel((seen.width // 2, 7 * seen.height // 8))
    assert isinstance(red, tuple)
    assert isinstance(blue, tuple)
    assert red[0] > 200 > red[2]
    assert blue[2] > 200 > blue[0]


def test_what_is_no_picture_is_refused_at_once_with_a_reason(page: Page) -> None:
    large = file("large.png", b"\x89PNG" + bytes(400_000), "image/png")
    page.set_input_files("#files", [file("note.txt", b"hello", "text/plain"), large, *pictures(1)])
    refused = page.locator("#refused")
    expect(refused).to_contain_text("note.txt is refused: it is not a JPEG")
    expect(refused).to_contain_text("large.png is refused: it has 0.4 MB; a picture may have 0.3")
    assert names(page) == ["0.png"]


def test_too_many_are_said_before_they_are_sent(page: Page) -> None:
    page.set_input_files("#files", pictures(4))
    expect(page.locator("#objection")).to_have_text(
        "There are 4 pictures; this service takes 3 at once. Remove 1."
    )
    expect(page.locator("#go")).to_be_disabled()
    page.get_by_role("button", name="Remove 2.png").click()
    expect(page.locator("#objection")).to_be_empty()
    expect(page.locator("#go")).to_be_enabled()


def test_pictures_are_added_ordered_and_removed_with_the_keyboard(page: Page) -> None:
    page.set_input_files("#files", pictures(2))
    page.set_input_files("#files", pictures(3)[2:])
    assert names(page) == ["0.png", "1.png", "2.png"]
    face = page.get_by_role("button", name="2.png", exact=True)
    face.focus()
    page.keyboard.press("ArrowLeft")
    assert names(page) == ["0.png", "2.png", "1.png"]
    expect(face).to_be_focused()
    expect(page.locator("#order-said")).to_have_text("2.png is 2 of 3")
    page.keyboard.press("Home")
    assert names(page) == ["2.png", "0.png", "1.png"]
    expect(page.locator("#chosen li.first")).to_contain_text("2.png")
    page.keyboard.press("Delete")
    assert names(page) == ["0.png", "1.png"]
    expect(page.get_by_role("button", name="0.png", exact=True)).to_be_focused()
    page.get_by_role("button", name="Make 1.png the 1st").click()
    page.locator("#go").click()
    expect(page.locator("#pictures strong").first).to_have_text("1.png")


def test_pictures_are_put_in_order_by_dragging(page: Page) -> None:
    page.set_viewport_size({"width": 900, "height": 900})
    page.set_input_files("#files", pictures(3))
    page.locator("#chosen li").nth(2).drag_to(page.locator("#chosen li").first)
    assert names(page) == ["2.png", "0.png", "1.png"]
    expect(page.locator("#refused")).to_be_empty()


def test_what_the_browser_cant_show_has_its_kind_and_name(page: Page) -> None:
    page.set_input_files(
        "#files",
        [file("a.heic", b"no browser reads this"), file("b.zip", b"PK"), file("c.mp4", b"")],
    )
    assert page.locator("#chosen .kind").all_inner_texts() == ["picture", "zip", "video"]
    assert names(page) == ["a.heic", "b.zip", "c.mp4"]
