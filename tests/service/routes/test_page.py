from __future__ import annotations

import pytest

from tests.service.running import Running, Serve

EXIF_ORIENTATION = 0x0112


@pytest.fixture(scope="module")
def service(serve: Serve) -> Running:
    return serve(max_images=4, max_image_bytes=200_000, max_total_bytes=500_000, max_pixels=300_000)


def test_the_page_needs_nothing_from_elsewhere(service: Running) -> None:
    answer = service.client.get("/")
    assert answer.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "http://" not in answer.text
    assert "https://" not in answer.text
