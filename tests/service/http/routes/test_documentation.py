from __future__ import annotations

import pytest

from tests.service.running import Running, Serve

EXIF_ORIENTATION = 0x0112


@pytest.fixture(scope="module")
def service(serve: Serve) -> Running:
    return serve(max_images=4, max_image_bytes=200_000, max_total_bytes=500_000, max_pixels=300_000)


def test_openapi_documents_the_multipart_body_and_the_problems(service: Running) -> None:
    post = service.client.get("/openapi.json").json()["paths"]["/reconstruct"]["post"]
    schema = post["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert schema["properties"]["images"]["items"] == {"type": "string", "format": "binary"}
    assert schema["properties"]["urls"]["items"]["type"] == "string"
    assert {
        "200",
        "202",
        "400",
        "401",
        "406",
        "408",
        "413",
        "415",
        "422",
        "424",
        "429",
        "500",
        "503",
        "504",
        "507",
    } <= set(post["responses"])
