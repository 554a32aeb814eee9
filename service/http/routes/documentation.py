"""What /openapi.json says beyond what the routes' signatures say: problems by status, and the
upload's form."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Path

from service.exports.records import EXPORTS
from service.http.protocol.problems import KINDS, MEDIA_TYPE
from service.inputs.options import Options
from service.inputs.remote.hosts import URL_LENGTH

RECONSTRUCT, RECONSTRUCTIONS, FILES, SERVICE = "Reconstruct", "Reconstructions", "Files", "Service"
BATCHES = "Batches"
TAGS = [
    {"name": RECONSTRUCT, "description": "Send pictures of one scene."},
    {"name": RECONSTRUCTIONS, "description": "Find, follow, read and remove reconstructions."},
    {
        "name": FILES,
        "description": "Files made from a finished reconstruction, in other programs' formats.",
    },
    {"name": BATCHES, "description": "Reconstruct many scenes, and get them in one archive."},
    {
        "name": SERVICE,
        "description": "Health, metrics, and what this service can do, all public; a key's usage.",
    },
]

_ID = "3f2504e04f8911d39a0c0305e82c3301"
Id = Annotated[
    str, Path(description="The reconstruction's id: 32 hexadecimal digits.", examples=[_ID])
]
Index = Annotated[int, Path(description="Number of the picture, from 0.", examples=[0])]

_FILE = {"type": "string", "format": "binary"}
_LINKED = {
    "result": "ReconstructionDocument",
    "picture": "PictureDocument",
    "depth": "DepthDocument",
}


def documented(*problems: str) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that may answer with these problems, and with those that any route
    may. One that asks for a key also reads headers that may be wrong."""
    if "key-required" in problems:
        problems += ("invalid-option",)
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
        **documented(
            "not-found",
            "not-finished",
            "range-not-satisfiable",
            "invalid-option",
            "key-required",
            "storage-full",
            "no-tracks",
            "not-in-result",
            "store-unavailable",
        ),
    }


PROBLEM_SCHEMA = {
    "type": "object",
    "description": "RFC 9457 problem details; some types have further fields.",
    "required": ["type", "title", "status"],
    "properties": {
        "type": {
            "type": "string",
            "description": "about:blank, or /problems/{slug}, which explains it",
        },
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
    },
    "examples": [
        {
            "type": "/problems/no-pictures",
            "title": "No pictures",
            "status": 422,
            "detail": "The form has no pictures; send them in the field images.",
        }
    ],
}


def form_body() -> dict[str, Any]:
    """The request body of POST /reconstruct."""
    options = Options.model_json_schema(ref_template="#/components/schemas/{model}")
    properties: dict[str, Any] = {
        "images": {
            "type": "array",
            "minItems": 1,
            "items": _FILE,
            "examples": [["left.jpg", "right.jpg"]],
            "description": "JPEG, PNG, WebP, HEIC or AVIF pictures of one scene, one part each; "
            "zip archives of pictures and videos are taken too. Their order is the order of the "
            "result; the first one's camera is the world. "
            "The name `files` is accepted too.",
        },
        "archive": {
            **_FILE,
            "examples": ["pictures.zip"],
            "description": "A zip archive of pictures, in natural order of their names.",
        },
        "video": {
            **_FILE,
            "examples": ["walk.mp4"],
            "description": "An MP4, QuickTime, Matroska, WebM or AVI video; see fps.",
        },
        "urls": {
            "type": "array",
            "items": {"type": "string", "format": "uri", "maxLength": URL_LENGTH},
            "description": "https URLs of pictures, archives or videos, one part each, in one "
            "order with `images`; the "
            "last part of the path is the name. Only where the operator allows it: `urls` of "
            "/capabilities says so.",
            "examples": [["https://images.example.org/left.jpg"]],
        },
        "upload": {
            "type": "array",
            "items": {"type": "string", "maxLength": 36},
            "description": "ids of files that were sent to /uploads by the tus protocol, one part "
            "each, in one order with `images`. Only where the operator allows it: "
            "`resumable_uploads` of /capabilities says so.",
            "examples": [["4c63c5b9-2a3d-4d5c-8f0e-6a1de0d8a1f2"]],
        },
        "masks": {
            "type": "array",
            "items": _FILE,
            "examples": [["left.png", "right.png"]],
            "description": "Grey pictures of their pictures' sizes; what is dark is left out of "
            "the cloud. Named like "
            "their pictures, or one for each in the same order.",
        },
    }
    for name, schema in options["properties"].items():
        properties[name] = {
            key: value for key, value in schema.items() if key != "default" or value is not None
        }
    return {
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "properties": properties,
                        "additionalProperties": False,
                    },
                }
            },
        }
    }


def describe(schema: dict[str, Any]) -> dict[str, Any]:
    """Complete what FastAPI has made of the routes: problems, options, and the links of a
    result."""
    schemas = schema.setdefault("components", {}).setdefault("schemas", {})
    options = Options.model_json_schema(ref_template="#/components/schemas/{model}").get(
        "$defs", {}
    )
    schemas.update({"Problem": PROBLEM_SCHEMA, **options})
    for of, document in _LINKED.items():
        schemas[document]["properties"]["links"] = _links(of)
    return schema


def _links(of: str) -> dict[str, Any]:
    addresses = {
        export.link: (export.summary, export.name_of(0)) for export in EXPORTS if export.of == of
    }
    if of == "result":
        addresses = {"self": ("This document", ""), "events": ("Its events", "events"), **addresses}
    needed = {export.link for export in EXPORTS if export.of == of and export.needs is not None}
    return {
        "type": "object",
        "description": "Addresses; null for what this result does not have.",
        "properties": {
            link: {
                "type": ["string", "null"] if link in needed else "string",
                "format": "uri-reference",
                "description": summary,
                "examples": [f"/reconstructions/{_ID}/{name}".rstrip("/")],
            }
            for link, (summary, name) in addresses.items()
        },
    }
