from __future__ import annotations

from service.errors import ERRORS, QueueFull, ServiceError, restored


def test_every_error_has_a_code_of_its_own_and_says_what_to_do() -> None:
    assert len(ERRORS) == 46
    assert all(ERRORS[code].code == code for code in ERRORS)
    assert len({kind.meaning() for kind in ERRORS.values()}) == len(ERRORS)
    assert all(kind.meaning().endswith(".") for kind in ERRORS.values())


def test_an_error_comes_back_from_its_record() -> None:
    error = restored(QueueFull("No place.", retry_after=7, queue_capacity=3).record())
    assert type(error) is QueueFull
    assert (error.message, error.fields) == ("No place.", {"queue_capacity": 3})


def test_problem_documents_in_the_job_stores_of_older_versions_are_read() -> None:
    document = {"type": "/problems/out-of-memory", "title": "Out of memory", "status": 503}
    error = restored({**document, "detail": "No room.", "pictures": 3})
    assert (error.code, error.message, error.fields) == (
        "out-of-memory",
        "No room.",
        {"pictures": 3},
    )


def test_a_record_of_an_error_that_is_not_known_is_still_an_error() -> None:
    error = restored({"code": "from-the-future", "message": "Odd.", "fields": {}})
    assert (type(error), error.message) == (ServiceError, "Odd.")
