from __future__ import annotations

import re

import pytest

from service.http.routes.page import WEB
from tests.service.running import Running, Serve, problem


@pytest.fixture(scope="module")
def service(serve: Serve) -> Running:
    return serve()


def test_the_page_needs_nothing_from_elsewhere(service: Running) -> None:
    answer = service.client.get("/")
    assert answer.headers["content-type"].startswith("text/html")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http://" not in answer.text
    assert "https://" not in answer.text


def test_everything_that_the_page_and_its_scripts_load_is_there(service: Running) -> None:
    wanted = re.findall(r'(?:src|href)="(web/[^"]+)"', service.client.get("/").text)
    for path in wanted:  # which grows meanwhile
        if path.endswith(".js") and not path.endswith(".min.js"):
            imports = re.findall(r'from "\./([^"]+)"', service.client.get(f"/{path}").text)
            wanted += [f"web/{name}" for name in imports if f"web/{name}" not in wanted]
    assert {"web/page.js", "web/style.css", "web/three.min.js", "web/api.js"} <= set(wanted)
    for path in wanted:
        answer = service.client.get(f"/{path}")
        assert answer.status_code == 200, path
        again = service.client.get(f"/{path}", headers={"If-None-Match": answer.headers["etag"]})
        assert again.status_code == 304


def test_the_kept_librarys_licence_lies_beside_it() -> None:
    assert "MIT" in (WEB / "three.LICENSE.txt").read_text()
    assert "SPDX-License-Identifier: MIT" in (WEB / "three.min.js").read_text("utf-8")[:300]


@pytest.mark.parametrize(
    "path", ["web/index.html", "web/..%2f..%2fcli.py", "web/none.js", "samples/rooms/cameras.json"]
)
def test_no_other_file_is_given_away(service: Running, path: str) -> None:
    answer = service.client.get(f"/{path}")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


def test_the_sample_pictures_can_be_had(service: Running) -> None:
    for path, kind in (("rooms/00.png", "image/png"), ("still-life/00.jpg", "image/jpeg")):
        assert service.client.get(f"/samples/{path}").headers["content-type"] == kind
    for path in ("rooms/99.png", "none/00.png"):
        problem(service.client.get(f"/samples/{path}"), 404, "not-found")
    assert service.client.get("/samples/still-life/depth/00.png").status_code == 404
