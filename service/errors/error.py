"""What every error has: a code that never changes, a message, facts as plain data."""

from __future__ import annotations

import inspect
from typing import Any, ClassVar


class ServiceError(Exception):
    """The service met a condition that it did not expect. Nothing about the request needs to
    change; the service's log says more."""

    code: ClassVar[str] = "internal-error"
    retry_after: float | None = None
    """Seconds after which it makes sense to ask again, where it does."""

    def __init__(self, message: str, *, retry_after: float | None = None, **fields: Any) -> None:
        """`fields` are facts about this error as plain data: a limit, the number of a picture."""
        super().__init__(message)
        self.message = message
        self.fields = fields
        if retry_after is not None:
            self.retry_after = retry_after

    @classmethod
    def meaning(cls) -> str:
        """What happened and what to do about it."""
        return " ".join(inspect.cleandoc(cls.__doc__ or "").split())

    def record(self) -> dict[str, Any]:
        """Plain data for JSON, from which `restored` makes the error again."""
        return {"code": self.code, "message": self.message, "fields": self.fields}


class Refusal(ServiceError):
    """The request can't be taken as it is."""


class Unavailable(ServiceError):
    """The request can't be taken now; later it may."""

    retry_after = 5.0
