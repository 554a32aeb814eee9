from __future__ import annotations

from evaluation.columns import right_aligned


def test_columns_are_as_wide_as_their_longest_cell_and_lines_end_with_text() -> None:
    lines = [["set", "AUC@30", "note"], ["rooms", "8.3", ""]]
    assert right_aligned(lines) == ["  set  AUC@30  note", "rooms     8.3"]
