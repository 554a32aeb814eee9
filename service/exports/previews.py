"""Pictures and maps to be looked at: small files of what a result holds."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

from service.exports.depth import network_picture
from service.result.scene import Scene, size_within

_QUALITY = 88
_JPEG = b"\xff\xd8"


def write_picture_preview(scene: Scene, index: int, max_side: int, path: Path) -> None:
    """One upright picture as a JPEG with a longer side of `max_side` at most: from the original or
    the preview that the scene holds, else as the network saw it."""
    kept = (scene.originals or scene.previews)[index : index + 1]
    if not kept:
        picture = network_picture(scene, index)
    else:
        content = kept[0].tobytes()
        picture = Image.open(io.BytesIO(content))
        if content.startswith(_JPEG) and not scene.originals and max(picture.size) <= max_side:
            path.write_bytes(content)
            return
        picture.draft("RGB", (2 * max_side, 2 * max_side))  # a large JPEG is read at a lower size
    height, width = size_within((picture.height, picture.width), max_side)
    picture.convert("RGB").resize((width, height), Image.Resampling.LANCZOS).save(
        path, "JPEG", quality=_QUALITY
    )
