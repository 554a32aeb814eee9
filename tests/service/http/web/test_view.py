"""The view of a scene: what it shows is what files hold, and where it looks from."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from tests.service.http.web.visitor import SAMPLES, changed, reconstructed, view, visited
from tests.service.running import Running, Serve


@pytest.fixture(scope="module")
def service(serve: Serve) -> Running:
    return serve()


@pytest.fixture
def page(browser: Browser, service: Running) -> Iterator[Page]:
    with visited(browser, service) as page:
        reconstructed(page)
        expect(page.locator("#count")).to_contain_text("points chosen: files")
        yield page


def chosen(page: Page) -> int:
    """How many points the page says that it shows."""
    expect(page.locator("#count")).to_contain_text("points chosen: files")
    return int(page.locator("#count").inner_text().split()[0].replace(",", ""))


def saved(page: Page, label: str) -> bytes:
    """The file that a button saves."""
    with page.expect_download() as waiting:
        page.get_by_role("button", name=label, exact=True).click()
    return Path(waiting.value.path()).read_bytes()


def vertices(ply: bytes) -> int:
    found = re.search(rb"element vertex (\d+)", ply)
    assert found is not None
    return int(found[1])


def test_saved_points_are_those_that_are_shown(page: Page) -> None:
    everything = 2 * 96 * 96
    assert chosen(page) == everything * 3 // 4
    assert vertices(saved(page, "Points (PLY)")) == chosen(page)
    page.locator("#confidence").fill("60")
    expect(page.locator("#confidence-value")).to_have_text("the least certain 60 % left out")
    expect(page.locator("#count")).to_have_text(
        re.compile(r"^7,373 of 18,432 points chosen: files to save hold these")
    )
    page.get_by_label("Points of 0.png").uncheck()
    page.locator("#confidence").fill("0")
    expect(page.locator("#count")).to_contain_text(re.compile(r"^9,216 of "))
    page.get_by_label("without edges of depth").check()
    expect(page.locator("#count")).not_to_contain_text("9,216")
    count = chosen(page)
    assert 0 < count < everything // 2
    expect(page.locator("#drawn")).to_have_text(f"{count:,} drawn")
    assert vertices(saved(page, "Points (PLY)")) == count


def test_sliders_switches_and_keys_change_the_view_at_once(page: Page) -> None:
    before = view(page)
    page.locator("#size").fill("12")
    larger = changed(page, before, 0.5)
    page.get_by_label("Colours").select_option("by confidence")
    expect(page.locator("#legend")).to_contain_text("most certain")
    painted = changed(page, larger, 5)
    page.locator("#view").focus()
    page.keyboard.press("c")
    expect(page.locator("#cameras")).to_have_attribute("aria-pressed", "false")
    changed(page, painted, 0.2)
    page.keyboard.press("[")
    expect(page.locator("#confidence-value")).to_contain_text("20 %")
    page.keyboard.press("t")
    turning = view(page)
    changed(page, turning, 0.5)
    page.keyboard.press("t")


def test_from_a_pictures_camera_the_view_is_that_picture(page: Page) -> None:
    page.set_viewport_size({"width": 900, "height": 700})
    page.get_by_role("button", name="Cameras", exact=True).click()
    page.locator("#confidence").fill("0")
    page.locator("#size").fill("5")
    page.get_by_label("Points of 0.png").uncheck()
    page.get_by_role("button", name="Look from the camera of 1.png").click()
    expect(page.locator("#looking")).to_contain_text("1.png")
    page.locator("#fade").fill("0")
    page.wait_for_timeout(500)
    inside, outside = page.locator("#overlay").bounding_box(), page.locator("#view").bounding_box()
    assert inside is not None
    assert outside is not None
    assert inside["height"] == pytest.approx(outside["height"], abs=1)
    left = inside["x"] - outside["x"]
    shot = Image.open(io.BytesIO(page.locator("#view").screenshot())).convert("RGB")
    seen = shot.crop((int(left), 0, int(left + inside["width"]), int(0.85 * inside["height"])))
    with Image.open(SAMPLES / "01.png") as picture:
        wanted = picture.convert("RGB").crop((0, 0, picture.width, int(0.85 * picture.height)))
    pair = [
        np.asarray(each.resize((48, 40), Image.Resampling.BOX), float) for each in (seen, wanted)
    ]
    assert np.corrcoef(pair[0].ravel(), pair[1].ravel())[0, 1] > 0.85
    mirrored = np.corrcoef(pair[0][:, ::-1].ravel(), pair[1].ravel())[0, 1]
    assert mirrored < 0.7
    page.locator("#fade").fill("100")
    page.keyboard.press("Escape")
    expect(page.locator("#overlay")).to_be_visible()  # the slider has the keyboard
    page.get_by_role("button", name="Leave").click()
    expect(page.locator("#overlay")).to_be_hidden()


def test_a_camera_is_named_under_the_pointer_and_chosen_by_a_click(page: Page) -> None:
    page.set_viewport_size({"width": 900, "height": 700})
    box = page.locator("#view").bounding_box()
    assert box is not None
    for y in range(20, int(box["height"]), 25):
        for x in range(40, int(box["width"]), 40):
            page.mouse.move(box["x"] + x, box["y"] + y)
            if page.locator("#hover").is_visible():
                name = page.locator("#hover").inner_text()
                assert name in ("0.png", "1.png")
                page.mouse.click(box["x"] + x, box["y"] + y)
                expect(page.locator("#strip li.selected")).to_contain_text(name)
                return
    raise AssertionError("no camera is named anywhere in the view")


def test_distances_are_listed_a_miss_is_said_and_one_true_length_sets_the_scale(
    page: Page,
) -> None:
    page.get_by_role("button", name="Cameras", exact=True).click()
    page.locator("#size").fill("12")
    canvas = view(page)
    background = canvas[2, 2]
    rows, columns = np.nonzero(np.abs(canvas - background).sum(-1) > 60)
    page.get_by_role("button", name="Measure", exact=True).click()
    expect(page.locator("#hint")).to_contain_text("Click the first point")
    box = page.locator("#view").bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + 3, box["y"] + 3)
    expect(page.locator("#hint")).to_contain_text("There is no point")
    for share in (0.3, 0.7, 0.35, 0.65):
        at = int(share * len(rows))
        page.mouse.click(box["x"] + int(columns[at]), box["y"] + int(rows[at]))
    entries = page.locator("#distance-list li")
    expect(entries).to_have_count(2)
    first, second = (
        float(entry.locator("strong").inner_text().split()[0]) for entry in entries.all()
    )
    entries.first.get_by_label("True length of distance 1").fill("1.2")
    page.keyboard.press("Enter")
    expect(entries.first.locator("strong")).to_have_text("1.2 m")
    found = float(entries.nth(1).locator("strong").inner_text().split()[0])
    assert found == pytest.approx(1.2 * second / first, rel=0.02)
    cameras = json.loads(saved(page, "Cameras (JSON)"))["cameras"]
    metric = np.array(cameras[1]["extrinsic"])[:, 3]
    result = page.evaluate(
        "() => fetch('reconstructions/' + location.hash.slice(1)).then(found => found.json())"
    )
    own = np.array(result["pictures"][1]["extrinsic"])[:, 3]
    np.testing.assert_allclose(metric, own * 1.2 / first, rtol=0.02)
    page.get_by_role("button", name="Remove distance 1").click()
    expect(entries).to_have_count(1)


def test_with_the_keyboard_alone_the_middle_of_the_view_is_measured(page: Page) -> None:
    page.locator("#view").focus()
    page.keyboard.press("m")
    page.keyboard.press("Enter")
    expect(page.locator("#hint")).to_have_text(re.compile("Click the second point|There is no"))


def test_the_view_can_be_saved_as_a_picture_and_as_a_video(page: Page) -> None:
    with Image.open(io.BytesIO(saved(page, "Save picture"))) as picture:
        assert picture.size[0] > 300
    if page.get_by_role("button", name="Save video").is_visible():
        assert saved(page, "Save video")[:4] == b"\x1aE\xdf\xa3"  # of Matroska and WebM


@pytest.mark.parametrize("size", [(1280, 800), (390, 844)], ids=["desk", "phone"])
def test_the_first_look_has_the_whole_scene_in_view(page: Page, size: tuple[int, int]) -> None:
    page.set_viewport_size({"width": size[0], "height": size[1]})
    page.wait_for_timeout(300)
    page.get_by_role("button", name="Whole scene").click()
    canvas = view(page)
    seen = np.abs(canvas - canvas[2, 2]).sum(-1) > 60
    height, width = seen.shape
    assert seen[:, : width // 100].mean() < 0.25
    assert seen[:, -width // 100 :].mean() < 0.25
    assert max(np.ptp(np.nonzero(seen)[0]) / height, np.ptp(np.nonzero(seen)[1]) / width) > 0.6


POSES = """async ([cameras]) => {
  const { readCamera, upOf } = await import("/web/pose.js");
  const read = extrinsic => readCamera({ extrinsic, intrinsic: [], original_size: {} });
  return upOf(cameras.map(read)).toArray();
}"""


@pytest.mark.parametrize("spread", [15, 360], ids=["from one side", "from all around"])
def test_up_is_at_right_angles_to_the_horizons_of_all_cameras(page: Page, spread: int) -> None:
    up = np.array([0.2, -0.9, 0.38]) / np.linalg.norm([0.2, -0.9, 0.38])
    side = np.cross(up, [0, 0, 1])
    side /= np.linalg.norm(side)
    ahead = np.cross(side, up)
    cameras = []
    for angle in np.radians(np.linspace(-spread / 2, spread / 2, 9)[: 8 if spread == 360 else 9]):
        level = np.cos(angle) * ahead + np.sin(angle) * side
        forward = np.cos(0.5) * level - np.sin(0.5) * up  # looking down by 29 degrees
        right = np.cross(level, up)
        rotation = np.stack([right, np.cross(forward, right), forward])
        cameras.append(np.column_stack([rotation, np.zeros(3)]).tolist())
    found = np.array(page.evaluate(POSES, [cameras]))
    error = np.degrees(np.arccos(np.clip(found @ up, -1, 1)))
    assert error < (25 if spread == 15 else 0.1)  # the mean of the up axes is off by 29


def test_a_slow_machine_draws_fewer_points_all_the_while_the_view_turns(
    browser: Browser, service: Running
) -> None:
    with visited(browser, service) as page:
        reconstructed(page, 4)
        page.locator("#confidence").fill("0")
        drawn = page.locator("#drawn")
        expect(drawn).to_have_text("36,864 drawn")
        page.evaluate(
            """() => {
                window.requestAnimationFrame = call =>
                    setTimeout(() => call(performance.now()), 250);
            }"""
        )
        page.locator("#turn").click()
        expect(drawn).to_have_text("20,000 drawn while the view moves, then 36,864")
        said = page.evaluate(
            """() => new Promise(resolve => {
                const said = [], drawn = document.querySelector("#drawn");
                const watch = new MutationObserver(() => {
                    if (said.push(drawn.textContent) === 5) { watch.disconnect(); resolve(said); }
                });
                watch.observe(drawn, { childList: true });
            })"""
        )
        assert set(said) == {"20,000 drawn while the view moves, then 36,864"}
        page.locator("#turn").click()
        expect(drawn).to_have_text("36,864 drawn")
