"""The files that are made of a whole scene."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from service.exports.arrays import write_npz
from service.exports.cameras import cameras_json, tracks_json, trajectory_tum, transforms_json
from service.exports.colmap import write_colmap
from service.exports.export import Export, Need, Source
from service.exports.gltf import write_glb, write_mesh_glb
from service.exports.media_types import BYTES, GLTF, JSON, PLY, TEXT, ZIP
from service.exports.options import (
    ExportOptions,
    MetricOptions,
    PointFileOptions,
    PointOptions,
    ViewOptions,
)
from service.exports.ply import read_mesh, write_mesh, write_ply
from service.exports.points import Cloud, select_points
from service.exports.splats import write_gaussians, write_nerfstudio, write_splats
from service.exports.tsdf import VOLUME_BYTES, fuse
from service.exports.view import points_json, write_view
from service.result.scene import Scene


def _points(source: Source[PointOptions]) -> Cloud:
    return select_points(source.scene, source.options)


def _points_of_colmap(source: Source[PointOptions]) -> Cloud:
    """None beside triangulated points, unless they are asked for."""
    if source.scene.document.has_refined_cameras and source.options.points is None:
        return Cloud.empty(source.scene)
    return _points(source)


def _json(make: Callable[[Scene], Any]) -> Callable[[Source[ExportOptions], Path], object]:
    return lambda source, path: path.write_text(json.dumps(make(source.scene), indent=1) + "\n")


SCENE_EXPORTS: tuple[Export[Any], ...] = (
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
)
