from __future__ import annotations

import unicodedata

from service.result.names import distinct


def test_a_name_that_was_there_before_gets_a_number() -> None:
    assert distinct(["a.jpg", "b.jpg"]) == ["a.jpg", "b.jpg"]
    assert distinct(["a.jpg", "a.jpg", "a.jpg"]) == ["a.jpg", "a-2.jpg", "a-3.jpg"]
    assert distinct(["l/1.jpg", "l/1.jpg", "r/1.jpg"]) == ["l/1.jpg", "l/1-2.jpg", "r/1.jpg"]


def test_a_number_never_makes_a_name_that_another_picture_has() -> None:
    assert distinct(["a.jpg", "a.jpg", "a-2.jpg"]) == ["a.jpg", "a-3.jpg", "a-2.jpg"]
    assert distinct(["a-2.jpg", "a.jpg", "a.jpg"]) == ["a-2.jpg", "a.jpg", "a-3.jpg"]


def test_names_that_differ_only_in_how_accents_are_stored_are_alike() -> None:
    composed, decomposed = (unicodedata.normalize(form, "é.jpg") for form in ("NFC", "NFD"))
    assert distinct([composed, decomposed])[0] == composed
    assert unicodedata.normalize("NFC", distinct([composed, decomposed])[1]) != composed
