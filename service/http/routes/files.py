"""The files of a finished reconstruction. Points may be asked for with other options, without another run."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from service.access import Client
from service.application import Application
from service.exports.catalogue import (
    ARCHIVE_FILE,
    BYTES,
    CLOUD_FILES,
    GLTF,
    MANIFEST_FILE,
    PLAIN_FILES,
    TRACKS_FILE,
    MapKind,
)
from service.http.protocol.downloads import Download
from service.http.protocol.headers import Asking
from service.http.routes.documentation import file_answer
from service.inputs.options import Grid, PointOptions
from service.storage.folder import Export

_PNG = "image/png"


class PlyQuery(PointOptions):
    format: Literal["binary", "ascii"] = "binary"


class ColmapQuery(PointOptions):
    format: Literal["binary", "text"] = "binary"


def files_router(application: Application) -> APIRouter:
    """Every download below /reconstructions/{id}."""
    router = APIRouter(prefix="/reconstructions/{id}")
    catalogue = application.catalogue

    def send(request: Request, export: Export, media_type: str, name: str, label: str) -> Response:
        application.metrics.artifact_bytes.labels(label).inc(export.bytes)
        return Download(request.headers, export, media_type, name)

    def cloud(request: Request, client: Client, id: str, name: str, options: PointOptions) -> Response:
        job = application.finished(client, id)
        with application.metrics.stages.labels("export").time():
            export = catalogue.cloud_file(job.result, name, options)
        return send(request, export, CLOUD_FILES[name].media_type, name, name)

    @router.get(
        "/points.ply",
        responses=file_answer(BYTES, "Coloured points, PLY"),
        response_class=Response,
    )
    def points(id: str, request: Request, client: Asking, options: Annotated[PlyQuery, Query()]) -> Response:
        name = "points.ply" if options.format == "binary" else "points-ascii.ply"
        return cloud(request, client, id, name, options)

    @router.get(
        "/points-ascii.ply", responses=file_answer(BYTES, "Coloured points, PLY as text"), response_class=Response
    )
    def points_ascii(id: str, request: Request, client: Asking, options: Annotated[PointOptions, Query()]) -> Response:
        return cloud(request, client, id, "points-ascii.ply", options)

    @router.get("/scene.glb", responses=file_answer(GLTF, "Points and camera frustums, glTF"), response_class=Response)
    def glb(id: str, request: Request, client: Asking, options: Annotated[PointOptions, Query()]) -> Response:
        return cloud(request, client, id, "scene.glb", options)

    @router.get(
        "/colmap.zip", responses=file_answer("application/zip", "A COLMAP sparse model"), response_class=Response
    )
    def colmap(id: str, request: Request, client: Asking, options: Annotated[ColmapQuery, Query()]) -> Response:
        name = "colmap.zip" if options.format == "binary" else "colmap-text.zip"
        return cloud(request, client, id, name, options)

    @router.get(
        "/colmap-text.zip", responses=file_answer("application/zip", "A COLMAP model as text"), response_class=Response
    )
    def colmap_text(id: str, request: Request, client: Asking, options: Annotated[PointOptions, Query()]) -> Response:
        return cloud(request, client, id, "colmap-text.zip", options)

    def plain(name: str) -> None:
        file = PLAIN_FILES[name]

        @router.get(
            f"/{name}",
            responses=file_answer(file.media_type, name),
            response_class=Response,
            name=name.replace(".", "_"),
        )
        def download(id: str, request: Request, client: Asking) -> Response:
            job = application.finished(client, id)
            with application.metrics.stages.labels("export").time():
                export = catalogue.plain_file(job.result, name)
            return send(request, export, file.media_type, name, name)

    for name in PLAIN_FILES:
        plain(name)

    @router.get(
        f"/{TRACKS_FILE}",
        responses=file_answer(
            "application/json", "Query points in every picture: frames[i].points, visibility, confidence"
        ),
        response_class=Response,
    )
    def tracks(id: str, request: Request, client: Asking) -> Response:
        job = application.finished(client, id)
        return send(request, catalogue.tracks(job.result), "application/json", TRACKS_FILE, TRACKS_FILE)

    @router.get(
        f"/{MANIFEST_FILE}", responses=file_answer("application/json", "What made this, and every file's SHA-256"),
        response_class=Response,
    )  # fmt: skip
    def manifest(id: str, request: Request, client: Asking) -> Response:
        job = application.finished(client, id)
        return send(request, catalogue.manifest(job.result), "application/json", MANIFEST_FILE, MANIFEST_FILE)

    @router.get(f"/{ARCHIVE_FILE}", responses=file_answer("application/zip", "All files"), response_class=Response)
    def everything(id: str, request: Request, client: Asking) -> Response:
        job = application.finished(client, id)
        with application.metrics.stages.labels("export").time():
            export = catalogue.archive(job.result)
        return send(request, export, "application/zip", f"reconstruction-{id[:8]}.zip", ARCHIVE_FILE)

    @router.get("/pictures/{index}.png", responses=file_answer(_PNG, "What the network saw"), response_class=Response)
    def picture(id: str, index: int, request: Request, client: Asking) -> Response:
        job = application.finished(client, id)
        return send(request, catalogue.picture(job.result, index), _PNG, f"picture-{index}.png", "picture.png")

    def per_picture(path: str, kind: MapKind, media_type: str, description: str) -> None:
        @router.get(path, responses=file_answer(media_type, description), response_class=Response, name=kind)
        def download(id: str, index: int, request: Request, client: Asking, grid: Grid = "original") -> Response:
            job = application.finished(client, id)
            with application.metrics.stages.labels("export").time():
                export = catalogue.map_file(job.result, kind, index, grid)
            application.metrics.artifact_bytes.labels(kind).inc(export.bytes)
            headers = {}
            if kind == "depth.png":
                scale = application.result(job).pictures[index].depth.png_scale
                headers = {"X-Depth-Scale": repr(scale)}
            stem, _, suffix = kind.partition(".")
            name = f"{stem.replace('-preview', '')}-{index}{'-preview' if 'preview' in kind else ''}.{suffix}"
            return Download(request.headers, export, media_type, name, headers)

    per_picture("/depth/{index}.png", "depth.png", _PNG, "Depth, 16 bits; times X-Depth-Scale")
    per_picture("/depth/{index}.npy", "depth.npy", BYTES, "Depth, float32, NaN for no data")
    per_picture("/depth/{index}.exr", "depth.exr", "image/x-exr", "Depth, OpenEXR channel Z")
    per_picture("/depth/{index}/preview.png", "depth-preview.png", _PNG, "Depth in colours")
    per_picture("/confidence/{index}.npy", "confidence.npy", BYTES, "Confidence, float32, at least 1")
    per_picture("/confidence/{index}/preview.png", "confidence-preview.png", _PNG, "Confidence in colours")
    return router
