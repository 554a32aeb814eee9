"""The page in a real browser, from choosing files to turning the cloud."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, Route, expect

from model.files.artifact import save
from quantization.convert import quantize_network
from quantization.recipe import RECIPES
from service.inference.engine import Engine
from service.inference.network_pass import Pass
from service.keys import add_key
from tests.model.families.networks import TINY
from tests.service.http.web.visitor import (
    SAMPLES,
    changed,
    pictures,
    reconstructed,
    view,
    visited,
)
from tests.service.inputs.remote.origin import Origin, plain
from tests.service.inputs.test_archive import archive
from tests.service.pictures import form
from tests.service.running import Gate, Running, Serve


@pytest.fixture(scope="module")
def service(serve: Serve) -> Running:
    return serve()


@pytest.fixture
def page(browser: Browser, service: Running) -> Iterator[Page]:
    with visited(browser, service) as page:
        yield page


def test_the_sample_pictures_become_a_cloud_that_turns(page: Page) -> None:
    page.get_by_role("button", name="Try the sample pictures").click()
    expect(page.locator("#result")).to_be_visible()
    expect(page.locator("#facts")).to_contain_text("4 pictures")
    before = view(page)
    assert len(np.unique(before.reshape(-1, 3), axis=0)) > 200
    box = page.locator("#view").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 150, box["y"] + 120)
    page.mouse.down()
    page.mouse.move(box["x"] + 300, box["y"] + 150, steps=3)
    page.mouse.up()
    changed(page, before, 2)


@pytest.mark.parametrize("width", [1280, 390])
def test_a_banner_says_what_the_model_is_not_for(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    banner = page.get_by_role("note")
    expect(banner).to_contain_text("trained on drawn rooms")
    expect(banner).to_contain_text(
        "have them refined on the pictures themselves (refine=dense), or quantise a checkpoint"
    )
    reconstructed(page)
    expect(banner).to_contain_text("trained on drawn rooms")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_problem_is_told_in_the_services_words_and_leads_back(page: Page) -> None:
    page.set_input_files(
        "#files", [{"name": "a.jpg", "mimeType": "image/jpeg", "buffer": b"nothing"}]
    )
    page.get_by_role("button", name="Reconstruct").click()
    expect(page.get_by_role("alert")).to_contain_text(
        "a.jpg is not a JPEG, PNG, WebP, HEIC or AVIF picture"
    )
    page.get_by_role("button", name="Back").click()
    expect(page.locator("#start")).to_be_visible()


def test_where_nothing_is_fetched_by_url_none_is_asked_for(page: Page) -> None:
    expect(page.get_by_label("or give URLs")).to_be_hidden()


@pytest.fixture(scope="module")
def origin() -> Iterator[Origin]:
    origin = Origin()
    origin.answers |= {f"/{i}.png": plain((SAMPLES / f"0{i}.png").read_bytes()) for i in range(4)}
    yield origin
    origin.stop()


@pytest.fixture(scope="module")
def fetching(serve: Serve, origin: Origin) -> Running:
    return serve(fetch_urls=True, fetch_hosts=origin.url(""))


def test_urls_are_typed_and_sent_with_chosen_pictures(
    browser: Browser, fetching: Running, origin: Origin
) -> None:
    with visited(browser, fetching) as page:
        page.set_input_files("#files", pictures(1))
        page.locator("#files").focus()
        for _ in range(6):  # past the picture and what can be done with it
            page.keyboard.press("Tab")
        expect(page.get_by_label("or give URLs")).to_be_focused()
        expect(page.locator("#addresses")).to_contain_text(
            "or give URLs on listed hosts, one a line"
        )
        for path in ("/2.png", "", "  /1.png "):
            page.keyboard.insert_text(path.replace("/", origin.url("/")))
            page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        if page.get_by_label("Cameras and depth").is_visible():  # where refinement is installed
            expect(page.get_by_label("Cameras and depth")).to_be_focused()
            page.keyboard.press("Tab")
        expect(page.get_by_role("button", name="Reconstruct 3 pictures")).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.locator("#result")).to_be_visible()
        for caption, name in zip(
            page.locator("#pictures strong").all(), ("0.png", "2.png", "1.png"), strict=True
        ):
            expect(caption).to_contain_text(name)
        page.get_by_role("button", name="New reconstruction").click()
        expect(page.get_by_label("or give URLs")).to_have_value("")


def test_a_refused_url_is_told_in_the_services_words_and_can_be_corrected(
    browser: Browser, fetching: Running
) -> None:
    with visited(browser, fetching) as page:
        page.set_viewport_size({"width": 360, "height": 740})
        typed = "https://images.example.org/" + 40 * "long-name-" + ".png"
        page.get_by_label("or give URLs").fill(typed)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        page.get_by_role("button", name="Reconstruct", exact=True).click()
        told = (
            "The URL of picture 0 is on a host, scheme or port that this service does not fetch "
            "from."
        )
        expect(page.locator("#problem-detail")).to_have_text(told)
        page.get_by_role("button", name="Back").click()
        expect(page.get_by_label("or give URLs")).to_have_value(typed)
        page.get_by_role("button", name="Try the sample pictures").click()
        expect(page.locator("#facts")).to_contain_text("4 pictures")


def test_a_link_to_a_result_opens_it_and_it_stands_in_the_list(page: Page) -> None:
    reconstructed(page)
    link = page.url
    page.goto("about:blank")
    page.goto(link)
    expect(page.locator("#result")).to_be_visible()
    page.get_by_role("button", name="New reconstruction").click()
    page.locator("#earlier-list .face").first.click()
    expect(page.locator("#result")).to_be_visible()


def test_a_link_to_another_result_in_the_same_tab_opens_it(page: Page) -> None:
    reconstructed(page)
    first = page.url
    page.get_by_role("button", name="New reconstruction").click()
    reconstructed(page, 3)
    expect(page.locator("#facts")).to_contain_text("3 pictures")
    page.evaluate("address => { location.href = address; }", first)
    expect(page.locator("#facts")).to_contain_text("2 pictures")
    assert page.url == first


def test_clicking_the_sample_pictures_twice_reconstructs_them_once(page: Page) -> None:
    sent: list[str] = []
    page.on("request", lambda one: sent.append(one.url) if one.method == "POST" else None)
    held: list[Route] = []
    page.route("**/samples/**", lambda route: held.append(route))
    button = page.get_by_role("button", name="Try the sample pictures")
    button.dblclick()
    expect(button).to_be_disabled()
    expect(page.locator("#go")).to_be_disabled()
    for route in held:
        route.continue_()
    expect(page.locator("#result")).to_be_visible()
    assert len(held) == 4
    assert len([url for url in sent if url.endswith("/reconstruct")]) == 1


def test_a_video_whose_type_the_browser_does_not_know_is_sent_as_one(page: Page) -> None:
    sent: list[bytes] = []

    def refuse(route: Route) -> None:
        sent.append(route.request.post_data_buffer or b"")
        route.fulfill(status=415, json={})

    page.route("**/reconstruct", refuse)
    page.evaluate(
        """() => import("/web/api.js").then(api => {
            const { signal } = new AbortController(), film = new File(["film"], "walk.mkv");
            api.submit([film], [], {}, () => {}, signal).catch(() => {});
        })"""
    )
    page.wait_for_timeout(500)
    assert len(sent) == 1
    assert b'name="video"; filename="walk.mkv"' in sent[0]


def test_on_a_phone_nothing_is_wider_than_the_screen(page: Page) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    reconstructed(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_dark_and_light_follow_the_switch_and_are_remembered(page: Page) -> None:
    def background() -> str:
        return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))

    light = background()
    page.get_by_role("button", name="Switch between dark and light").click()
    dark = background()
    assert light != dark
    page.reload()
    assert background() == dark


def test_progress_is_live_and_work_can_be_cancelled(browser: Browser, serve: Serve) -> None:
    gated = serve(Gate)
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(f"http://127.0.0.1:{gated.port}/")
        page.set_input_files("#files", pictures(2))
        page.get_by_role("button", name="Reconstruct 2 pictures").click()
        expect(page.locator("#stages .now")).to_have_text("Network")
        expect(page.locator("#time")).to_contain_text(" so far")
        expect(page).to_have_title(re.compile(r"^[1-9]\d % · Reconstruction$"))
        page.get_by_role("button", name="Cancel").click()
        expect(page.locator("#start")).to_be_visible()
        assert page.locator("#chosen .name").all_inner_texts() == ["0.png", "1.png"]
    gated.engine.opened.set()
    assert gated.metric('quantvggt_cancelled_total{phase="running"}') == 1


def test_with_keys_the_page_asks_for_one(browser: Browser, serve: Serve, tmp_path: Path) -> None:
    key = add_key(tmp_path / "keys.json", "visitor")
    service = serve(api_keys=tmp_path / "keys.json")
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(f"http://127.0.0.1:{service.port}/")
        page.get_by_label("This service wants an API key").fill(key)
        page.get_by_role("button", name="Use it").click()
        reconstructed(page)
        expect(page.locator("#facts")).to_contain_text("2 pictures")
        link = page.url
    with browser.new_context() as context:  # somebody else, by the link
        page = context.new_page()
        page.goto(link)
        page.get_by_label("This service wants an API key").fill(key)
        page.get_by_role("button", name="Use it").click()
        expect(page.locator("#facts")).to_contain_text("2 pictures")
        assert page.url == link


SCRIPTS = (
    '1<img src=x onerror="window.ran=1">.png',
    '2"><script>window.ran=1</script>.png',
    "3' onerror='window.ran=1.png",
    "4javascript:window.ran=1.png",
    "5&lt;svg onload=window.ran=1&gt;.png",
)


def test_scripts_in_names_are_shown_as_names_and_never_run(page: Page, service: Running) -> None:
    picture = (SAMPLES / "00.png").read_bytes()
    content = archive(*((name, picture) for name in SCRIPTS), (SCRIPTS[0] + ".txt", b"-"))
    page.set_input_files(
        "#files",
        [{"name": "scan.zip", "mimeType": "application/zip", "buffer": content.file.read()}],
    )
    page.get_by_role("button", name="Reconstruct").click()
    expect(page.locator("#result")).to_be_visible()
    for caption, name in zip(page.locator("#pictures strong").all(), SCRIPTS, strict=True):
        expect(caption).to_contain_text(name)
    expect(page.locator("#warnings")).to_contain_text(f"Not taken: {SCRIPTS[0]}.txt")
    assert _nothing_ran(page)
    id = page.url.rpartition("#")[2]
    for path in (f"/reconstructions/{id}", f"/reconstructions/{SCRIPTS[0]}", f"/#{SCRIPTS[0]}"):
        page.goto(f"http://127.0.0.1:{service.port}{path}")
        assert _nothing_ran(page)
    page.goto(f"http://127.0.0.1:{service.port}/")
    page.set_input_files(
        "#files", [{"name": SCRIPTS[0], "mimeType": "image/png", "buffer": b"nothing"}]
    )
    page.get_by_role("button", name="Reconstruct").click()
    expect(page.get_by_role("alert")).to_contain_text("<img src=x onerror=")
    assert _nothing_ran(page)


def _nothing_ran(page: Page) -> bool:
    page.wait_for_timeout(300)
    nothing: bool = page.evaluate(
        "window.ran === undefined && !document.querySelector('[src=x], [onload], [onerror]')"
    )
    return nothing


def test_a_long_scene_grows_while_it_is_worked_on(browser: Browser, serve: Serve) -> None:
    class Waiting(Engine):
        """Waits in its third pass until it is told to go on."""

        passes, go = 0, False

        def infer(self, batch: Any, observer: Any, *rest: Any) -> Pass:
            self.passes += 1
            while self.passes > 2 and not self.go:
                observer("aggregator", 0.5)
                time.sleep(0.01)
            return super().infer(batch, observer, *rest)

    service = serve(Waiting, pass_frames=3)
    files = form(*(path.read_bytes() for path in sorted(SAMPLES.glob("*.png"))))
    answer = service.client.post(
        "/reconstruct", files=[*files, files[0], files[1]], headers={"Prefer": "respond-async"}
    )
    with visited(browser, service) as page:
        page.goto(f"{page.url}#{answer.json()['id']}")
        expect(page.locator("#growing")).to_be_visible()
        expect(page.locator("#growing-count")).to_have_text("5 pictures so far, in 2 of 3 parts")
        before = view(page, "#growing-view")
        assert len(np.unique(before.reshape(-1, 3), axis=0)) > 200
        service.engine.go = True
        expect(page.locator("#result")).to_be_visible()
        expect(page.locator("#growing")).to_be_hidden()
        expect(page.locator("#facts")).to_contain_text("6 pictures")


def test_all_long_scenes_of_a_page_grow_in_one_view(browser: Browser, serve: Serve) -> None:
    service = serve(pass_frames=3)
    with visited(browser, service) as page:
        page.evaluate(
            """() => {
                document.body.dataset.listening = 0;
                const add = EventTarget.prototype.addEventListener;
                EventTarget.prototype.addEventListener = function (kind, ...rest) {
                    if (kind === "pointerdown" && this.id === "growing-view")
                        document.body.dataset.listening++;
                    return add.call(this, kind, ...rest);
                };
            }"""
        )
        listening = []
        for more in (1, 2):
            files = pictures(4)
            files += [{**files[0], "name": f"again-{i}.png"} for i in range(more)]
            page.set_input_files("#files", files)
            page.locator("#go").click()
            expect(page.locator("#result")).to_be_visible()
            expect(page.locator("body")).not_to_have_attribute("data-listening", "0")
            listening.append(page.locator("body").get_attribute("data-listening"))
            page.get_by_role("button", name="New reconstruction").click()
    assert listening[1] == listening[0]


@pytest.mark.parametrize("width", [1280, 390])
def test_where_there_are_several_models_one_is_chosen_on_the_page(
    browser: Browser, serve: Serve, artifact: Path, width: int
) -> None:
    service = serve(model=(f"rooms={artifact}", f"again={artifact}"))
    with visited(browser, service) as page:
        page.set_viewport_size({"width": width, "height": 844})
        expect(page.locator("#model-facts")).to_contain_text("vggt · not for photographs")
        page.get_by_label("Model", exact=True).select_option("again")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        reconstructed(page)
        id = page.url.rpartition("#")[2]
        answer = service.client.get(f"/reconstructions/{id}")
        assert answer.json()["options"]["model"] == "again"


def test_the_page_says_which_network_is_served_and_under_what_licence(
    browser: Browser, serve: Serve, tmp_path: Path
) -> None:
    facts = {
        "checkpoint": "model.safetensors",
        "weights_licence": "Some-1.0",
        "commercial_use": False,
        "licence_source": "its card",
    }
    made = quantize_network(TINY["any-view"](), RECIPES["rtn"])
    save(made, tmp_path / "any-view", provenance=facts)
    with visited(browser, serve(artifact=tmp_path / "any-view")) as page:
        model = page.locator("#model")
        expect(model).to_contain_text("model.safetensors · depth_anything_3 · W4A")
        expect(model).to_contain_text("Some-1.0, not for commercial use")
        expect(model).to_have_attribute("title", "Licence: its card")


def test_where_there_is_one_model_nothing_is_to_be_chosen(page: Page) -> None:
    expect(page.get_by_label("Model", exact=True)).to_be_hidden()
