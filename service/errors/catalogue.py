"""Every kind of error by its code, and errors made again from their records."""

from __future__ import annotations

from typing import Any

from service.errors import failures, refusals, unavailable
from service.errors.error import ServiceError

ERRORS: dict[str, type[ServiceError]] = {ServiceError.code: ServiceError} | {
    kind.code: kind
    for group in (refusals, unavailable, failures)
    for kind in vars(group).values()
    if isinstance(kind, type)
    and issubclass(kind, ServiceError)
    and kind.__module__ == group.__name__
}
"""Every kind of error by its code."""


def restored(record: dict[str, Any]) -> ServiceError:
    """The error that was recorded, also as the problem document that older versions recorded."""
    if "code" in record:
        code, message, fields = record["code"], record["message"], record["fields"]
    else:
        code, message = record["type"].rpartition("/")[2], record["detail"]
        known = ("type", "title", "status", "detail")
        fields = {name: value for name, value in record.items() if name not in known}
    return ERRORS.get(code, ServiceError)(message, **fields)
