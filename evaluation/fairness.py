"""A model is not scored on what it was calibrated on."""

from __future__ import annotations

from collections.abc import Collection


def refuse_calibration_data(
    scene: str, split: str, calibration_splits: Collection[str], calibration_scenes: Collection[str]
) -> None:
    """Raises ValueError if a scene belongs to the data that a model was calibrated on."""
    if split in calibration_splits or scene in calibration_scenes:
        raise ValueError(
            f"scene {scene!r} of split {split!r} belongs to the data that this model was "
            "calibrated on; evaluate on another split"
        )
