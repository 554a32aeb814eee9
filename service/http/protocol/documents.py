"""JSON documents in request bodies.

A route reads them itself, once it knows who asks: a parameter would make the framework read any
number of bytes first.
"""

from __future__ import annotations

from typing import Any, TypeVar

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError

from service.errors import TooManyBytes

Document = TypeVar("Document", bound=BaseModel)


async def read_document(request: Request, kind: type[Document], most_bytes: int) -> Document:
    """The document in the body. Raises TooManyBytes, and RequestValidationError for what is
    none."""
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > most_bytes:
            raise TooManyBytes(f"The body has more than {most_bytes} bytes.", max_bytes=most_bytes)
    try:
        return kind.model_validate_json(bytes(content))
    except ValidationError as error:
        raise RequestValidationError(
            [{**each, "loc": ("body", *each["loc"])} for each in error.errors()]
        ) from None


def document_body(kind: type[BaseModel]) -> dict[str, Any]:
    """What /openapi.json says of a body that `read_document` reads."""
    schema = kind.model_json_schema()
    parts = schema.pop("$defs", {})
    for part in (schema, *parts.values()):  # else generated clients name classes by the titles
        del part["title"]
    return {
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": _inlined(schema, parts)}},
        }
    }


def _inlined(schema: Any, parts: dict[str, Any]) -> Any:
    """The schema with its parts in the places of their references."""
    if isinstance(schema, list):
        return [_inlined(each, parts) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _inlined(parts[schema["$ref"].rpartition("/")[2]], parts)
    return {name: _inlined(each, parts) for name, each in schema.items()}
