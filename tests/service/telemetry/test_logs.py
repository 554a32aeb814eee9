from __future__ import annotations

import json
import logging
import sys

from service.telemetry.logs import JsonFormatter, request_id


def test_a_json_line_has_the_request_id_and_the_traceback_on_one_line() -> None:
    try:
        raise ValueError("first\nsecond")
    except ValueError:
        record = logging.LogRecord(
            "service", logging.ERROR, "f", 1, "broke %s", ("it",), sys.exc_info()
        )
    token = request_id.set("abc")
    record.request_id = request_id.get()
    request_id.reset(token)
    text = JsonFormatter().format(record)
    assert "\n" not in text
    line = json.loads(text)
    assert (line["level"], line["message"], line["request_id"]) == ("error", "broke it", "abc")
    assert "ValueError: first" in line["traceback"]
