"""What /openapi.json says beyond what the routes' signatures say: problems by status, and the upload's form."""

from __future__ import annotations

from typing import Any

from service.http.protocol.problems import KINDS, MEDIA_TYPE
from service.inputs.options import Options
from service.inputs.remote.hosts import URL_LENGTH

_FILE = {"type": "string", "format": "binary"}


def documented(*problems: str) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that may answer with these problems, and with those that any route may."""
    answers: dict[int | str, dict[str, Any]] = {}
    for problem in (KINDS[code] for code in dict.fromkeys((*problems, "internal-error"))):
        known = answers.get(problem.status, {}).get("description")
        title = f"{known}, or: {problem.title}" if known else problem.title
        answers[problem.status] = {
            "description": title,
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
    return answers


def file_answer(media_type: str, description: str) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that sends a file: whole, a range of it, or not again."""
    schema = {"type": "object"} if media_type == "application/json" else _FILE
    content = {media_type: {"schema": schema}}
    return {
        200: {"description": description, "content": content},
        206: {"description": "The range that was asked for", "content": content},
        304: {"description": "The client has it already"},
        **documented("not-found", "not-finished", "range-not-satisfiable", "invalid-option", "key-required",
                     "storage-full", "no-tracks", "store-unavailable"),
    }  # fmt: skip


PROBLEM_SCHEMA = {
    "type": "object",
    "description": "RFC 9457 problem details; some types have further fields.",
    "required": ["type", "title", "status"],
    "properties": {
        "type": {"type": "string", "description": "about:blank, or /problems/{slug}, which explains it"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
    },
}


def form_body() -> dict[str, Any]:
    """The request body of POST /reconstruct."""
    options = Options.model_json_schema(ref_template="#/components/schemas/{model}")
    properties: dict[str, Any] = {
        "images": {
            "type": "array",
            "minItems": 1,
            "items": _FILE,
            "description": "JPEG, PNG, WebP or HEIC pictures of one scene, one part each; zip archives of pictures and "
            "videos are taken too. Their order is the order of the result; the first one's camera is the world. "
            "The name `files` is accepted too.",
        },
        "archive": {**_FILE, "description": "A zip archive of pictures, in natural order of their names."},
        "video": {**_FILE, "description": "An MP4, QuickTime, Matroska, WebM or AVI video; see fps."},
        "urls": {
            "type": "array",
            "items": {"type": "string", "format": "uri", "maxLength": URL_LENGTH},
            "description": "https URLs of pictures, archives or videos, one part each, in one order with `images`; the "
            "last part of the path is the name. Only where the operator allows it: `urls` of /capabilities says so.",
            "examples": [["https://images.example.org/left.jpg"]],
        },
        "masks": {
            "type": "array",
            "items": _FILE,
            "description": "Grey pictures of their pictures' sizes; what is dark is left out of the cloud. Named like "
            "their pictures, or one for each in the same order.",
        },
    }
    for name, schema in options["properties"].items():
        properties[name] = {key: value for key, value in schema.items() if key != "default" or value is not None}
    return {
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {
                    "schema": {"type": "object", "properties": properties, "additionalProperties": False},
                }
            },
        }
    }


def option_schemas() -> dict[str, Any]:
    """The schemas that the form's structured options refer to."""
    schemas: dict[str, Any] = Options.model_json_schema(ref_template="#/components/schemas/{model}").get("$defs", {})
    return schemas
