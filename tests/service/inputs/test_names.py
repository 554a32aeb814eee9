from __future__ import annotations

import pytest

from service.inputs.names import display_name


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("a.png", "a.png"),
        ("../../a.png", "a.png"),
        ("C:\\fakepath\\a.png", "a.png"),
        ("left/1.png", "left/1.png"),
        ("left\\1.png", "left/1.png"),
        ("./left//1.png", "left/1.png"),
        ("/left/1.png", "1.png"),
        ("left/..\x00/1.png", "1.png"),
        ("12:30:05.png", "12:30:05.png"),
        ("/".join(["x" * 100] * 3) + "/1.png", "x" * 100 + "/" + "x" * 100 + "/1.png"),
        ("\x00\x1b[31ma\n.png", "[31ma.png"),
        ("Übersicht 1.jpg", "Übersicht 1.jpg"),
        ("x" * 500 + ".png", "x" * 116 + ".png"),
        ("", "picture-7"),
        ("..//", "picture-7"),
        (None, "picture-7"),
    ],
)
def test_a_display_name_is_printable_and_leads_only_down(given: str | None, shown: str) -> None:
    assert display_name(given, 7) == shown
