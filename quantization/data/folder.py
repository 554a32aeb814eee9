"""A scene as a folder: one PNG a frame and `cameras.json` with the true cameras."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image

from quantization.data.scene import Scene

CAMERAS = "cameras.json"
CONVENTION = (
    "extrinsic = world-to-camera [R|t], OpenCV axes (x right, y down, z forward); "
    "intrinsic in pixels of the stored image; the world is the first camera, its scale is arbitrary"
)


def write_folder(scene: Scene, folder: Path) -> None:
    """Writes the frames as `00.png`, `01.png`, ... and their cameras in the frame of the first one."""
    scene = scene.normalised()
    folder.mkdir(parents=True, exist_ok=True)
    frames = []
    for i, image in enumerate(scene.images):
        name = f"{i:02d}.png"
        pixels = (image.movedim(0, -1) * 255).round().byte().numpy()
        Image.fromarray(pixels).save(folder / name)
        frames.append(
            {
                "file": name,
                "width": image.shape[2],
                "height": image.shape[1],
                "intrinsic": scene.intrinsics[i].tolist(),
                "extrinsic": scene.extrinsics[i].tolist(),
            }
        )
    described = {"description": f"synthetic scene {scene.name}", "convention": CONVENTION, "frames": frames}
    (folder / CAMERAS).write_text(json.dumps(described, indent=1) + "\n")
