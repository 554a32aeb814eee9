from __future__ import annotations

import pytest

from service.errors import InvalidOption, NotAcceptable
from service.http.protocol.headers import Preference, choose, read_idempotency_key, read_prefer

OFFERED = ("application/json", "model/gltf-binary")


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        (None, OFFERED[0]),
        ("", OFFERED[0]),
        ("*/*", OFFERED[0]),
        ("model/gltf-binary", OFFERED[1]),
        ("MODEL/GLTF-BINARY ; q=0.5", OFFERED[1]),
        ("application/json;q=0.1, model/*", OFFERED[1]),
        ("*/*, application/json;q=0", OFFERED[1]),
        ("text/html, */*;q=0.1", OFFERED[0]),
        ("model/gltf-binary;q=x, application/*", OFFERED[0]),
    ],
)
def test_the_best_offer_is_chosen(accept: str | None, chosen: str) -> None:
    assert choose(accept, OFFERED) == chosen


@pytest.mark.parametrize(
    "accept", ["text/html", "application/json;q=0", "nonsense", "model/stl, image/*"]
)
def test_what_is_not_offered_is_not_acceptable(accept: str) -> None:
    with pytest.raises(NotAcceptable) as caught:
        choose(accept, OFFERED)
    assert caught.value.fields["available"] == list(OFFERED)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, Preference(None, None)),
        ("respond-async", Preference(0.0, "respond-async")),
        ("Respond-Async", Preference(0.0, "respond-async")),
        ("wait=30", Preference(30.0, "wait=30")),
        ("respond-async, wait=5", Preference(5.0, "respond-async, wait=5")),
        ("return=minimal, wait=-1", Preference(None, None)),
        ("wait=soon", Preference(None, None)),
        ("respond-async; foo=bar", Preference(0.0, "respond-async")),
    ],
)
def test_preferences_are_read_and_unknown_ones_ignored(
    header: str | None, expected: Preference
) -> None:
    assert read_prefer(header) == expected


def test_an_idempotency_key_may_be_quoted() -> None:
    assert read_idempotency_key('"a b"') == read_idempotency_key("a b") == "a b"
    assert read_idempotency_key(None) is None
    for bad in ("", '""', "ü", "a\x00b", "x" * 256):
        with pytest.raises(InvalidOption):
            read_idempotency_key(bad)
