from __future__ import annotations

import json
from pathlib import Path

import pytest

from training.curve import LOG, plot_curve, read_log


def test_a_log_becomes_a_picture(tmp_path: Path) -> None:
    records = [
        {"step": 25, "losses": {"total": 3.0, "camera": 1.0}, "attention_accuracy": 0.2},
        {"step": 25, "validation": {"auc_30": 5.0, "rotation_deg": 20.0, "translation_deg": 40.0}},
        {"step": 50, "losses": {"total": 2.0}, "attention_accuracy": None},
    ]
    (tmp_path / LOG).write_text("".join(json.dumps(record) + "\n" for record in records))
    assert read_log(tmp_path) == records
    plot_curve(tmp_path, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_without_records_cannot_be_drawn(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="train first"):
        plot_curve(tmp_path, tmp_path / "curve.png")
