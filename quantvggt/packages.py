"""Where the rest of the project lies: inside an installed package, or beside this one in a
checkout.

Names such as `model` and `kernels` are also other people's, so an installed copy keeps ours out of
site-packages, in ``quantvggt/_packages``; only the command puts that folder on its path, importing
`quantvggt` does not.
"""

from __future__ import annotations

import sys
from pathlib import Path

FOLDERS = (
    "evaluation",
    "kernels",
    "model",
    "quantization",
    "refinement",
    "scenes",
    "service",
    "training",
)
"""Top-level folders of the project whose code is imported by these names."""


def packages_folder() -> Path:
    """The folder that holds `FOLDERS`."""
    here = Path(__file__).resolve().parent
    installed = here / "_packages"
    return installed if installed.is_dir() else here.parent


def make_importable() -> None:
    """Put that folder first on the path, unless it is on it already."""
    folder = str(packages_folder())
    if folder not in sys.path:
        sys.path.insert(0, folder)
