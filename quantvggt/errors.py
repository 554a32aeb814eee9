"""What can go wrong, as a user has to tell it apart: their input, or the service."""

from __future__ import annotations

# Answers that say: what was sent can't be used as it is. All others may be different next time, or
# for another client.
_BAD_INPUT = (400, 413, 415, 422, 424)


class BadInputError(ValueError):
    """What was asked for can't be done as given. One sentence: what was given, what was expected,
    what to do."""


class ServiceError(RuntimeError):
    """The service refused, failed or could not be reached. One sentence, the service's own where it
    gave one.

    `status` is that of the HTTP answer, None if there was none.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status

    @property
    def blames_input(self) -> bool:
        """Whether the service refused what was sent, rather than failed at it."""
        return self.status in _BAD_INPUT
