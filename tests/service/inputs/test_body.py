from __future__ import annotations

import pytest

from service.inputs.body import display_name


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("a.png", "a.png"),
        ("../../a.png", "a.png"),
        ("C:\\fakepath\\a.png", "a.png"),
        ("\x00\x1b[31ma\n.png", "[31ma.png"),
        ("Übersicht 1.jpg", "Übersicht 1.jpg"),
        ("x" * 500 + ".png", "x" * 116 + ".png"),
        ("", "picture-7"),
        ("..//", "picture-7"),
        (None, "picture-7"),
    ],
)
def test_a_display_name_is_one_printable_component(given: str | None, shown: str) -> None:
    assert display_name(given, 7) == shown
