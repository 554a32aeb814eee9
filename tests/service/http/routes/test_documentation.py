from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from openapi_spec_validator import validate

from service.exports.records import EXPORTS
from service.inputs.options import Options
from tests.service.running import Running, Serve

EXIF_ORIENTATION = 0x0112


@pytest.fixture(scope="module")
def service(serve: Serve) -> Running:
    return serve(max_images=4, max_image_bytes=200_000, max_total_bytes=500_000, max_pixels=300_000)


@pytest.fixture(scope="module")
def openapi(service: Running) -> dict[str, Any]:
    found: dict[str, Any] = service.client.get("/openapi.json").json()
    return found


@pytest.fixture(scope="module")
def operations(openapi: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Every operation, by method and path."""
    return {
        f"{method} {path}": found
        for path, item in openapi["paths"].items()
        for method, found in item.items()
    }


def named_schemas(openapi: dict[str, Any], *names: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for name in names:
        for field, schema in openapi["components"]["schemas"][name]["properties"].items():
            yield f"{name}.{field}", schema


def test_the_description_is_valid_openapi(openapi: dict[str, Any]) -> None:
    validate(openapi)


def test_the_multipart_body_and_the_problems_are_documented(
    operations: dict[str, dict[str, Any]],
) -> None:
    post = operations["post /reconstruct"]
    schema = post["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert schema["properties"]["images"]["items"] == {"type": "string", "format": "binary"}
    assert schema["properties"]["urls"]["items"]["type"] == "string"
    assert set(Options.model_fields) < set(schema["properties"])
    statuses = (200, 202, 400, 401, 406, 408, 413, 415, 422, 424, 429, 500, 503, 504, 507)
    assert set(map(str, statuses)) <= set(post["responses"])


def test_where_a_key_may_be_missing_a_header_may_be_wrong(
    operations: dict[str, dict[str, Any]],
) -> None:
    for name, operation in operations.items():
        if "401" in operation["responses"]:
            assert list(operation["responses"]["422"]["content"]) == ["application/problem+json"], (
                name
            )


def test_every_operation_has_a_tag_a_summary_and_an_id_to_call_a_function_by(
    openapi: dict[str, Any], operations: dict[str, dict[str, Any]]
) -> None:
    tags = {tag["name"] for tag in openapi["tags"]}
    for name, operation in operations.items():
        assert len(operation["tags"]) == 1, name
        assert set(operation["tags"]) <= tags, name
        assert 5 < len(operation["summary"]) < 80, name
        assert re.fullmatch(r"[a-z]+([A-Z][a-z]+)*", operation["operationId"]), name
    ids = Counter(operation["operationId"] for operation in operations.values())
    assert [id for id, times in ids.items() if times > 1] == []
    assert {"reconstruct", "getReconstruction", "downloadPoints", "downloadDepthPng"} <= set(ids)


def test_every_parameter_and_option_has_a_description_and_an_example(
    openapi: dict[str, Any], operations: dict[str, dict[str, Any]]
) -> None:
    options: list[tuple[str, dict[str, Any]]] = [
        (f"{name}?{parameter['name']}", {**parameter["schema"], **parameter})
        for name, operation in operations.items()
        for parameter in operation.get("parameters", ())
    ]
    form = operations["post /reconstruct"]["requestBody"]["content"]["multipart/form-data"][
        "schema"
    ]
    options += form["properties"].items()
    assert len(options) > 100
    assert [name for name, option in options if not option.get("description")] == []
    options += named_schemas(openapi, "KnownCamera", "KnownDistance", "PicturePoint")
    assert [name for name, option in options if not option.get("examples")] == []


def test_an_example_of_an_option_is_one_that_the_service_takes() -> None:
    for name, field in Options.model_fields.items():
        for example in field.examples or ():
            assert Options.model_validate_strings({name: str(example)}).model_fields_set == {name}


def test_the_links_of_a_result_are_documented_one_by_one(openapi: dict[str, Any]) -> None:
    documents = {
        "result": "ReconstructionDocument",
        "picture": "PictureDocument",
        "depth": "DepthDocument",
    }
    for export in EXPORTS:
        links = openapi["components"]["schemas"][documents[export.of]]["properties"]["links"]
        assert links["properties"][export.link]["description"] == export.summary
