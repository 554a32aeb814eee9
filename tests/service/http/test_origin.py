from __future__ import annotations

import pytest

from service.http.origin import names_of
from service.settings import SettingsError, load_settings
from tests.service.pictures import encode, form, make_picture
from tests.service.running import Running, Serve, problem


@pytest.fixture(scope="module")
def service(serve: Serve) -> Running:
    return serve()


FOREIGN = (
    {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"},
    {"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1:3000"},  # another port
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},  # a script without an origin
    {"Origin": "https://evil.example"},  # an old browser
    {"Origin": "null"},  # a sandboxed frame, or a file
)


@pytest.mark.parametrize("headers", FOREIGN)
def test_a_page_of_another_site_may_not_send_list_or_delete(
    service: Running, headers: dict[str, str]
) -> None:
    answer = service.client.post(
        "/reconstruct", files=form(encode(make_picture())), headers=headers
    )
    problem(answer, 403, "cross-site")
    problem(service.client.get("/reconstructions", headers=headers), 403, "cross-site")
    path = f"/reconstructions/{'0' * 32}"
    problem(service.client.delete(path, headers=headers), 403, "cross-site")
    # nor may a form that navigates, which a browser sends without asking first
    navigates = {**headers, "Sec-Fetch-Mode": "navigate"}
    problem(service.client.post("/reconstruct", headers=navigates), 403, "cross-site")


def test_its_own_page_programs_and_links_may(service: Running) -> None:
    own = f"http://127.0.0.1:{service.port}"
    for headers in (
        {},
        {"Origin": own},
        {"Sec-Fetch-Site": "same-origin", "Origin": own},
        {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"},  # a link on another site
    ):
        assert service.client.get("/reconstructions", headers=headers).status_code == 200, headers
    answer = service.client.post(
        "/reconstruct",
        files=form(encode(make_picture())),
        headers={"Sec-Fetch-Site": "same-origin", "Origin": own},
    )
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "["]
)
def test_on_loopback_a_name_that_somebody_else_pointed_here_is_refused(
    service: Running, host: str
) -> None:
    answer = service.client.get("/reconstructions", headers={"Host": host})
    assert "--allowed-hosts" in service.client.get("/problems/unknown-host").json()["meaning"]
    problem(answer, 421, "unknown-host")
    assert service.client.get("/livez", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:1", "127.0.0.1", "[::1]:8000", "a.localhost"]
)
def test_the_names_of_this_machine_are_its_own(service: Running, host: str) -> None:
    assert service.client.get("/reconstructions", headers={"Host": host}).status_code == 200


def test_whoever_runs_it_may_name_it(serve: Serve) -> None:
    service = serve(allowed_hosts="depth.example, other.example")
    for host, status in (("depth.example", 200), ("DEPTH.example:443", 200), ("evil.example", 421)):
        answer = service.client.get("/reconstructions", headers={"Host": host})
        assert answer.status_code == status, host


@pytest.mark.parametrize(
    ("host", "allowed", "any"),
    [
        ("127.0.0.1", None, False),
        ("::1", None, False),
        ("localhost", None, False),
        ("0.0.0.0", None, True),
        ("127.0.0.1", "*", True),
        ("0.0.0.0", "a.example", False),
    ],
)
def test_only_a_service_on_loopback_knows_its_names_by_itself(
    host: str, allowed: str | None, any: bool
) -> None:
    assert (names_of(host, allowed) is None) == any


SITE = "https://site.example"


@pytest.fixture(scope="module")
def embedded(serve: Serve) -> Running:
    return serve(cors_origin=f"{SITE}, http://localhost:3000/")


def of(origin: str) -> dict[str, str]:
    return {"Origin": origin, "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"}


def test_without_the_setting_no_answer_may_be_read_by_another_sites_page(service: Running) -> None:
    asks = {**of(SITE), "Access-Control-Request-Method": "POST"}
    answers = [
        service.client.options("/reconstruct", headers=asks),
        service.client.get("/capabilities", headers=of(SITE)),
        service.client.get("/capabilities"),
    ]
    for answer in answers:
        assert not [name for name in answer.headers if name.startswith("access-control")]
    assert [answer.status_code for answer in answers] == [403, 403, 200]


@pytest.mark.parametrize("origin", [SITE, "http://localhost:3000"])
def test_pages_of_listed_sites_may_send_and_read(embedded: Running, origin: str) -> None:
    asks = {
        **of(origin),
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, idempotency-key, prefer",
    }
    asked = embedded.client.options("/reconstruct", headers=asks)
    assert asked.status_code == 200
    sent = embedded.client.post(
        "/reconstruct", files=form(encode(make_picture())), headers=of(origin)
    )
    assert sent.status_code == 200
    for answer in (asked, sent):
        assert answer.headers["access-control-allow-origin"] == origin
    assert "location" in sent.headers["access-control-expose-headers"].lower()
    assert "access-control-allow-credentials" not in sent.headers


@pytest.mark.parametrize("origin", ["https://evil.example", f"{SITE}.evil.example", "null"])
def test_pages_of_other_sites_still_may_not(embedded: Running, origin: str) -> None:
    answer = embedded.client.post(
        "/reconstruct", files=form(encode(make_picture())), headers=of(origin)
    )
    problem(answer, 403, "cross-site")
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("given", ["*", "site.example", "https://site.example/page", "null"])
def test_what_is_no_origin_is_refused_at_the_start(given: str) -> None:
    with pytest.raises(SettingsError, match="no origin of the form"):
        load_settings({"artifact": "a", "cors_origin": given}, {})
