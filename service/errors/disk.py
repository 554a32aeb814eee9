"""Which exceptions mean that a disk is full, and what to say then."""

from __future__ import annotations

import errno
import os
import re

from service.errors.unavailable import StorageFull

_FULL = re.compile(
    "|".join(
        (
            re.escape(os.strerror(errno.ENOSPC)),
            re.escape(os.strerror(errno.EDQUOT)),
            r"\d+ requested and \d+ written",  # NumPy, which tells no more
        )
    ),
    re.IGNORECASE,
)


def is_full(error: BaseException) -> bool:
    """Whether an error means that a disk or a quota is full. Only some libraries pass on the
    system's number; others put its message into one of their own."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return _FULL.search(str(error)) is not None


def disk_full() -> StorageFull:
    """What to say when there is no room for what a request needs."""
    return StorageFull("The disk is full; nothing was kept.")
