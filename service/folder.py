"""A reconstruction as a folder: ``result.json``, ``points.ply`` and ``depth/`` with PNG, NPY and preview."""

from __future__ import annotations

from pathlib import Path

from service.exports import CONFIDENCE_PERCENTILE, depth_npy, depth_png, depth_preview
from service.result import ReconstructionDocument
from service.scene import Scene


def write_folder(scene: Scene, out: Path) -> ReconstructionDocument:
    """Write everything that the service offers of `scene` into `out`; returns the document as written."""
    document = scene.document.in_folder()
    write_document(document, out)
    write_file(out, document.links.points, scene.ply(percentile=CONFIDENCE_PERCENTILE, max_points=None))
    for picture in document.pictures:
        depth, links = scene.depth_map(picture.index, "original"), picture.depth.links
        write_file(out, links.png, depth_png(depth, picture.depth.png_scale))
        write_file(out, links.npy, depth_npy(depth))
        write_file(out, links.preview, depth_preview(depth))
    return document


def write_document(document: ReconstructionDocument, out: Path) -> None:
    write_file(out, document.links.self, (document.model_dump_json(indent=2) + "\n").encode())


def write_file(out: Path, name: str, content: bytes) -> None:
    path = out / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
