from __future__ import annotations

import json

from service.errors import ERRORS, KeyRequired, NotFound, QueueFull, RangeNotSatisfiable
from service.http.protocol.problems import KINDS, recorded_problem, refuse


def test_every_error_has_a_status_and_a_title_of_its_own() -> None:
    assert set(KINDS) == set(ERRORS)
    assert len({kind.title for kind in KINDS.values()}) == len(KINDS)
    assert all(400 <= kind.status < 600 for kind in KINDS.values())


def test_an_answer_carries_status_headers_and_extra_fields() -> None:
    response = refuse(QueueFull("No place.", retry_after=4.2, queue_capacity=3), {"Location": "/x"})
    assert (response.status_code, response.headers["retry-after"]) == (429, "5")
    assert response.headers["location"] == "/x"
    assert json.loads(bytes(response.body)) == {
        "type": "/problems/queue-full",
        "title": "Queue full",
        "status": 429,
        "detail": "No place.",
        "queue_capacity": 3,
    }


def test_headers_that_belong_to_an_error_are_sent_with_it() -> None:
    assert refuse(KeyRequired("Who?")).headers["www-authenticate"] == "Bearer"
    assert refuse(RangeNotSatisfiable("No.", bytes=9)).headers["content-range"] == "bytes */9"
    assert "retry-after" not in refuse(NotFound("Gone.")).headers


def test_what_a_job_store_keeps_of_a_failure_is_told_as_a_problem() -> None:
    told = {
        "type": "/problems/out-of-memory",
        "title": "Out of memory",
        "status": 503,
        "detail": "No room.",
        "pictures": 3,
    }
    record = {"code": "out-of-memory", "message": "No room.", "fields": {"pictures": 3}}
    assert recorded_problem(record) == told
    assert recorded_problem(told) == told, "as older versions kept it"
    assert recorded_problem(None) is None
