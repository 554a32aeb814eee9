from __future__ import annotations

import json

from service.problems import PROBLEMS, Problem, QueueFull


def test_every_problem_is_listed_with_a_slug_title_and_meaning_of_its_own() -> None:
    classes = {Problem, *Problem.__subclasses__()}
    assert set(PROBLEMS.values()) == classes
    assert len({kind.title for kind in classes}) == len(classes)
    assert all(kind.__doc__ and 400 <= kind.status < 600 for kind in classes)


def test_a_response_carries_status_headers_and_extra_fields() -> None:
    response = QueueFull("No place.", headers={"Retry-After": "5"}, queue_capacity=3).response()
    assert (response.status_code, response.headers["retry-after"]) == (429, "5")
    assert json.loads(bytes(response.body)) == {
        "type": "/problems/queue-full",
        "title": "Queue full",
        "status": 429,
        "detail": "No place.",
        "queue_capacity": 3,
    }
