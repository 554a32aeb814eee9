"""Every file that can be had of a result. This list is the only place where an export has its
name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from service.exports.archive import write_archive, write_manifest
from service.exports.arrays import write_npz
from service.exports.cameras import cameras_json, tracks_json, trajectory_tum, transforms_json
from service.exports.colmap import write_colmap
from service.exports.depth import (
    confidence_picture,
    depth_levels,
    depth_picture,
    network_picture,
    source_picture,
    write_depth_exr,
    write_npy,
    write_png,
)
from service.exports.export import Export, Need, Source
from service.exports.gltf import write_glb, write_mesh_glb
from service.exports.options import (
    DepthOptions,
    ExportOptions,
    MapOptions,
    MapPreviewOptions,
    MetricOptions,
    PicturePreviewOptions,
    PointFileOptions,
    PointOptions,
    ViewOptions,
)
from service.exports.ply import read_mesh, write_mesh, write_ply
from service.exports.points import Cloud, select_points
from service.exports.previews import write_picture_preview
from service.exports.splats import write_gaussians, write_nerfstudio, write_splats
from service.exports.tsdf import VOLUME_BYTES, fuse
from service.exports.view import points_json, write_view
from service.result.document import PictureDocument
from service.result.scene import Scene

BYTES = "application/octet-stream"
EXR = "image/x-exr"
GLTF = "model/gltf-binary"
JPEG = "image/jpeg"
JSON = "application/json"
PLY = "application/ply"
PNG = "image/png"
TEXT = "text/plain"
ZIP = "application/zip"


def _points(source: Source[PointOptions]) -> Cloud:
    return select_points(source.scene, source.options)


def _points_of_colmap(source: Source[PointOptions]) -> Cloud:
    """None beside triangulated points, unless they are asked for."""
    if source.scene.document.has_refined_cameras and source.options.points is None:
        return Cloud.empty(source.scene)
    return _points(source)


def _depth(source: Source[MapOptions]) -> Any:
    longest = getattr(source.options, "max_side", None)
    depth = source.scene.depth_map(source.index, source.options.grid, longest)
    factor = getattr(source.options, "metres_per_unit", None)
    return depth if factor is None else depth * np.float32(factor)


def _confidence(source: Source[MapOptions]) -> Any:
    longest = getattr(source.options, "max_side", None)
    return source.scene.confidence_map(source.index, source.options.grid, longest)


def _json(make: Callable[[Scene], Any]) -> Callable[[Source[ExportOptions], Path], object]:
    return lambda source, path: path.write_text(json.dumps(make(source.scene), indent=1) + "\n")


def _depth_scale(picture: PictureDocument) -> dict[str, str]:
    return {"X-Depth-Scale": repr(picture.depth.png_scale)}


EXPORTS: tuple[Export[Any], ...] = (
    Export(
        name="points.ply",
        link="points",
        media_type=BYTES,
        summary="Coloured points, PLY",
        options=PointFileOptions,
        write=lambda source, path: write_ply(_points(source), path),
        variants={"ascii": "points-ascii.ply"},
        accepted_as=(PLY, BYTES),
        formats={"points": "ply"},
        orderable=True,
        label="Points (PLY)",
        use="The coloured points, for MeshLab, CloudCompare, Blender or Open3D.",
    ),
    Export(
        name="points-ascii.ply",
        link="points_ascii",
        media_type=BYTES,
        summary="Coloured points, PLY as text",
        options=PointFileOptions,
        write=lambda source, path: write_ply(_points(source), path, ascii=True),
        formats={"points": "ply-ascii"},
    ),
    Export(
        name="scene.glb",
        link="scene_glb",
        media_type=GLTF,
        summary="Points and camera frustums, glTF",
        options=PointFileOptions,
        write=lambda source, path: write_glb(source.scene, _points(source), path),
        accepted_as=(GLTF,),
        formats={"points": "glb"},
        orderable=True,
        label="Scene (GLB)",
        use="Points and cameras in one file, for Blender, Windows 3D Viewer or a web page.",
    ),
    Export(
        name="colmap.zip",
        link="colmap",
        media_type=ZIP,
        summary="A COLMAP sparse model",
        options=PointFileOptions,
        write=lambda source, path: write_colmap(source.scene, _points_of_colmap(source), path),
        variants={"text": "colmap-text.zip"},
        formats={"points": "colmap", "cameras": "colmap"},
        orderable=True,
        label="COLMAP",
        use="Cameras and points as a COLMAP model, for COLMAP, OpenMVS or a splat trainer.",
    ),
    Export(
        name="colmap-text.zip",
        link="colmap_text",
        media_type=ZIP,
        summary="A COLMAP model as text",
        options=PointFileOptions,
        write=lambda source, path: write_colmap(
            source.scene, _points_of_colmap(source), path, text=True
        ),
        formats={"points": "colmap-text"},
    ),
    Export(
        name="transforms.json",
        link="transforms",
        media_type=JSON,
        summary="Cameras for nerfstudio",
        options=MetricOptions,
        write=_json(transforms_json),
        formats={"cameras": "transforms.json"},
        orderable=True,
        label="Cameras (nerfstudio)",
        use="The cameras alone, as transforms.json of nerfstudio.",
    ),
    Export(
        name="trajectory.txt",
        link="trajectory",
        media_type=TEXT,
        summary="Camera positions and rotations, TUM format",
        options=MetricOptions,
        write=lambda source, path: path.write_text(trajectory_tum(source.scene)),
        formats={"cameras": "tum"},
        orderable=True,
        label="Trajectory (TUM)",
        use="Where the camera was, one line a picture, for evo and other trajectory tools.",
    ),
    Export(
        name="cameras.json",
        link="cameras",
        media_type=JSON,
        summary="Cameras in this service's own conventions",
        options=MetricOptions,
        write=_json(cameras_json),
        formats={"cameras": "json"},
        orderable=True,
        label="Cameras (JSON)",
        use="Every camera's matrices, to be read by a program.",
    ),
    Export(
        name="scene.npz",
        link="npz",
        media_type=BYTES,
        summary="All arrays, NumPy",
        options=MetricOptions,
        write=lambda source, path: write_npz(source.scene, path),
        formats={"points": "npz"},
        orderable=True,
        label="Arrays (NPZ)",
        use="All arrays in one file, for NumPy.",
    ),
    Export(
        name="tracks.json",
        link="tracks",
        media_type=JSON,
        summary="Query points in every picture: frames[i].points, visibility, confidence",
        options=ExportOptions,
        write=_json(tracks_json),
        needs=Need.TRACKS,
    ),
    Export(
        name="mesh.ply",
        link="mesh",
        media_type=BYTES,
        summary="A surface with colours, PLY",
        options=MetricOptions,
        write=lambda source, path: write_mesh(fuse(source.scene), path),
        needs=Need.DENSE,
        package="skimage",
        own_bytes=VOLUME_BYTES,
        orderable=True,
        label="Mesh (PLY)",
        use="A surface instead of points, for MeshLab or Blender.",
    ),
    Export(
        name="mesh.glb",
        link="mesh_glb",
        media_type=GLTF,
        summary="A surface with colours, glTF",
        options=MetricOptions,
        write=lambda source, path: write_mesh_glb(read_mesh(source.file("mesh.ply").path), path),
        needs=Need.DENSE,
        package="skimage",
        own_bytes=VOLUME_BYTES,
        orderable=True,
        label="Mesh (GLB)",
        use="The same surface, for Windows 3D Viewer, a web page or Blender.",
    ),
    Export(
        name="gaussians.ply",
        link="gaussians",
        media_type=BYTES,
        summary="Gaussians to start training from, PLY",
        options=MetricOptions,
        write=lambda source, path: write_gaussians(source.scene, path),
        needs=Need.CAMERAS,
        orderable=True,
        label="Gaussians (PLY)",
        use="A start for training Gaussian splats.",
    ),
    Export(
        name="splats.zip",
        link="splats",
        media_type=ZIP,
        summary="For trainers of splats: undistorted pictures, COLMAP model, gaussians",
        options=MetricOptions,
        write=lambda source, path: write_splats(
            source.scene, source.file("gaussians.ply").path, path
        ),
        needs=Need.CAMERAS,
        orderable=True,
        label="Splats (zip)",
        use="Pictures, cameras and start in one folder, for a splat trainer such as gsplat.",
    ),
    Export(
        name="nerfstudio.zip",
        link="nerfstudio",
        media_type=ZIP,
        summary="For nerfstudio: upright pictures, transforms.json, points",
        options=MetricOptions,
        write=lambda source, path: write_nerfstudio(source.scene, path),
        needs=Need.CAMERAS,
        orderable=True,
        label="nerfstudio (zip)",
        use="Pictures, cameras and points in one folder, for nerfstudio's ns-train.",
    ),
    Export(
        name="depth/{index}.png",
        link="png",
        of="depth",
        media_type=PNG,
        summary="Depth, 16 bits; times X-Depth-Scale",
        options=DepthOptions,
        write=lambda source, path: write_png(
            depth_levels(_depth(source), source.document.pictures[source.index].depth.png_scale),
            path,
        ),
        saved_as="depth-{index}.png",
        headers=_depth_scale,
        formats={"depth": "png"},
        label="PNG",
    ),
    Export(
        name="depth/{index}.npy",
        link="npy",
        of="depth",
        media_type=BYTES,
        summary="Depth, float32, NaN for no data",
        options=DepthOptions,
        write=lambda source, path: write_npy(_depth(source), path),
        saved_as="depth-{index}.npy",
        formats={"depth": "npy"},
        label="NPY",
    ),
    Export(
        name="depth/{index}.exr",
        link="exr",
        of="depth",
        media_type=EXR,
        summary="Depth, OpenEXR channel Z",
        options=DepthOptions,
        write=lambda source, path: write_depth_exr(_depth(source), path),
        saved_as="depth-{index}.exr",
        formats={"depth": "exr"},
        label="EXR",
    ),
    Export(
        name="depth/{index}.source.png",
        link="source",
        of="depth",
        media_type=PNG,
        summary="Where depth comes from: 0 nowhere, 127 the network, 255 several pictures",
        options=ExportOptions,
        write=lambda source, path: write_png(
            source_picture(source.scene.source_map(source.index)), path
        ),
        grid="original",
        saved_as="depth-{index}-source.png",
        needs=Need.DENSE,
        formats={"depth": "source"},
        label="source of depth",
        shown=True,
    ),
    Export(
        name="pictures/{index}.png",
        link="picture",
        of="picture",
        media_type=PNG,
        summary="What the network saw",
        options=ExportOptions,
        write=lambda source, path: write_png(network_picture(source.scene, source.index), path),
        saved_as="picture-{index}.png",
        label="as the network saw it",
    ),
    Export(
        name="pictures/{index}/preview.jpg",
        link="preview",
        of="picture",
        media_type=JPEG,
        summary="The picture, at most 1024 pixels a side",
        options=PicturePreviewOptions,
        write=lambda source, path: write_picture_preview(
            source.scene, source.index, source.options.max_side, path
        ),
        grid="original",
        saved_as="picture-{index}-preview.jpg",
        archived=False,
        label="picture",
        shown=True,
    ),
    Export(
        name="depth/{index}/preview.png",
        link="preview",
        of="depth",
        media_type=PNG,
        summary="Depth in colours",
        options=MapPreviewOptions,
        write=lambda source, path: write_png(depth_picture(_depth(source)), path),
        saved_as="depth-{index}-preview.png",
        formats={"depth": "preview"},
        label="depth",
        shown=True,
    ),
    Export(
        name="confidence/{index}.npy",
        link="confidence",
        of="picture",
        media_type=BYTES,
        summary="Confidence, float32, at least 1",
        options=MapOptions,
        write=lambda source, path: write_npy(_confidence(source), path),
        saved_as="confidence-{index}.npy",
        formats={"confidence": "npy"},
    ),
    Export(
        name="confidence/{index}/preview.png",
        link="confidence_preview",
        of="picture",
        media_type=PNG,
        summary="Confidence in colours",
        options=MapPreviewOptions,
        write=lambda source, path: write_png(confidence_picture(_confidence(source)), path),
        saved_as="confidence-{index}-preview.png",
        formats={"confidence": "preview"},
        label="confidence",
        shown=True,
    ),
    Export(
        name="view.bin",
        link="view",
        media_type=BYTES,
        summary="Points with all that choosing them depends on, for the page's view",
        options=ViewOptions,
        write=lambda source, path: write_view(source.scene, source.options.max_points, path),
        archived=False,
    ),
    Export(
        name="points.json",
        link="points_count",
        media_type=JSON,
        summary="How many points a choice leaves, of each picture too",
        options=PointOptions,
        write=lambda source, path: path.write_text(
            json.dumps(points_json(source.scene, source.options)) + "\n"
        ),
        archived=False,
    ),
    # The last two hold or list the files of all before them.
    Export(
        name="manifest.json",
        link="manifest",
        media_type=JSON,
        summary="What made this, and every file's SHA-256",
        options=PointFileOptions,
        write=lambda source, path: write_manifest(source.document, source.files(), path),
        label="Manifest",
        use="What made this result, with every file's size and SHA-256.",
    ),
    Export(
        name="everything.zip",
        link="archive",
        media_type=ZIP,
        summary="All files",
        options=PointFileOptions,
        write=lambda source, path: write_archive(source.document, source.files(), path),
        saved_as="reconstruction-{id}.zip",
        archived=False,
        label="Everything (zip)",
        use="Every file of this result in one archive.",
    ),
)

BY_NAME = {export.name: export for export in EXPORTS}
OUTPUTS = tuple(export.name for export in EXPORTS if export.orderable)
"""Files that a request can order, to be ready as soon as it is done. Others are made when asked
for."""
