"""What pictures are called in files for other programs: the same names in each of them."""

from __future__ import annotations

import re

from service.result.names import distinct
from service.result.scene import Scene


def exported_names(scene: Scene) -> list[str]:
    """A name for each picture, no two alike: the path that it was sent with, blanks replaced,
    since in a COLMAP model as text a blank ends the name."""
    return distinct([re.sub(r"\s", "_", picture.filename) for picture in scene.document.pictures])
