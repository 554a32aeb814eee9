"""Log lines with the id of the request that they belong to, as text or as one JSON object each."""

from __future__ import annotations

import json
import logging
import sys
from contextvars import ContextVar
from datetime import datetime, timezone
from typing import Literal

request_id: ContextVar[str] = ContextVar("request_id", default="-")


def configure_logs(level: str, format: Literal["text", "json"]) -> None:
    """Write all log lines from `level` on to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_with_request_id)
    text = logging.Formatter("%(asctime)s %(levelname)s %(name)s [%(request_id)s] %(message)s")
    handler.setFormatter(text if format == "text" else JsonFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, request id, and the traceback if there
    is one."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, timezone.utc).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "request_id": getattr(record, "request_id", "-"),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


def _with_request_id(record: logging.LogRecord) -> bool:
    record.request_id = request_id.get()
    return True
