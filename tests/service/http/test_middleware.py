from __future__ import annotations

import pytest

from tests.service.running import Running, Serve


@pytest.fixture(scope="module")
def service(serve: Serve) -> Running:
    return serve()


@pytest.mark.parametrize(
    "path", ["/livez", "/", "/nowhere", "/metrics", "/web/page.js", "/capabilities"]
)
def test_every_answer_has_the_security_headers(service: Running, path: str) -> None:
    headers = service.client.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "server" not in headers


def test_a_request_id_is_passed_on_or_made(service: Running) -> None:
    assert (
        service.client.get("/livez", headers={"X-Request-ID": "abc-1"}).headers["x-request-id"]
        == "abc-1"
    )
    made = service.client.get("/livez").headers["x-request-id"]
    assert len(made) == 16
    for hostile in ("a b", "x" * 65, "<script>"):
        assert (
            service.client.get("/livez", headers={"X-Request-ID": hostile}).headers["x-request-id"]
            != hostile
        )


def test_head_works_on_every_get_route(service: Running) -> None:
    for path in ("/livez", "/", "/capabilities", "/reconstructions"):
        answer = service.client.head(path)
        assert (answer.status_code, answer.content) == (200, b""), path


def test_a_line_break_in_a_path_makes_no_line_in_the_log(
    service: Running, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "service.access"):
        service.client.get("/a%0A2026-01-01 forged%1b%E2%80%A8b")
    lines = [record.getMessage() for record in caplog.records if "forged" in record.getMessage()]
    assert lines
    assert all(line.isprintable() for line in lines)


def test_whatever_finds_the_disk_full_is_answered_with_507(
    service: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:
        raise OSError("90000 requested and 76768 written")  # NumPy tells no more

    monkeypatch.setattr(service.application.store, "page", full)
    assert service.client.get("/reconstructions").status_code == 507
