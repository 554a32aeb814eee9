"""What those who run and those who use the service ask about it: health, metrics, capabilities. All
public."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, get_args

from fastapi import APIRouter, Path, Query
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import JSONResponse, Response

from model.scene.pictures import FORMATS
from model.scene.preprocess import MODES
from service import __version__
from service.application import Application
from service.errors import ERRORS, NotFound
from service.exports.export import Kind, Need
from service.exports.records import EXPORTS, OUTPUTS, SCENE_FILES
from service.http.protocol.problems import KINDS
from service.http.routes.documentation import SERVICE, documented
from service.inputs.options import Options
from service.result.scene import Grid
from service.result.warnings import warnings_about
from service.settings import AccessSettings, refinement_version

Slug = Annotated[
    str, Path(description="The last part of a problem's type.", examples=["no-pictures"])
]


def operations_router(application: Application) -> APIRouter:
    """Health, metrics, capabilities and the meaning of problems."""
    router = APIRouter(tags=[SERVICE])

    @router.get(
        "/livez",
        summary="Is the process alive and its worker moving?",
        responses=documented("worker-stuck"),
    )
    async def get_liveness() -> dict[str, str]:
        application.check_alive()
        return {"status": "alive"}

    @router.get(
        "/readyz", summary="Is the model loaded, and does the service take work?",
        responses=documented("not-ready", "draining", "worker-stuck", "store-unavailable"),
    )  # fmt: skip
    async def get_readiness() -> dict[str, str]:
        await application.check_ready()
        return {"status": "ready"}

    @router.get(
        "/metrics", summary="Prometheus metrics", response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    )  # fmt: skip
    def get_metrics() -> Response:
        return Response(application.exposition(), media_type=CONTENT_TYPE_LATEST)

    @router.get(
        "/capabilities",
        summary="Limits, options, formats and the model",
        responses=documented("invalid-option"),
        response_model=dict[str, Any],
    )
    async def get_capabilities(
        model: Annotated[
            str | None,
            Query(
                description="the model to tell of, one of GET /models; default: the first",
                examples=["indoor"],
            ),
        ] = None,
    ) -> Response:
        return JSONResponse(_capabilities(application, model))

    @router.get(
        "/problems/{slug}",
        summary="What a problem's type means",
        responses=documented("not-found"),
        response_model=dict[str, Any],
    )
    async def get_problem(slug: Slug) -> dict[str, Any]:
        if slug not in KINDS:
            raise NotFound("There is no such problem type.")
        kind, meaning = KINDS[slug], ERRORS[slug].meaning()
        return {
            "type": f"/problems/{slug}",
            "title": kind.title,
            "status": kind.status,
            "meaning": meaning,
        }

    return router


def _capabilities(application: Application, name: str | None) -> dict[str, Any]:
    settings, engine = application.settings, application.models.asked(name)
    limits, queue, storage = asdict(settings.limits), settings.queue, settings.storage
    side = engine.image_size
    most = settings.limits.max_images
    exports = [
        export
        for export in EXPORTS
        if export.installed and (export.needs is not Need.TRACKS or "track" in engine.heads)
    ]
    model = engine.document()
    return {
        "version": __version__,
        "model": {**model.model_dump(), "heads": list(engine.heads)},
        "warnings": [
            warning.model_dump()
            for warning in warnings_about(model, refinable=refinement_version() is not None)
        ],
        "network": {"image_size": side, "patch_size": engine.patch_size},
        "modes": list(MODES),
        "default_mode": limits.pop("mode"),
        "input_formats": list(FORMATS),
        "container_formats": {
            "archive": ["ZIP"],
            "video": ["MP4", "QuickTime", "Matroska", "WebM", "AVI"],
        },
        "urls": _urls(settings.access),
        "resumable_uploads": application.uploads.on,
        "callbacks": application.webhooks.on,
        "output_urls": settings.access.send_outputs,
        "output": storage.output_prefixes is not None,
        "output_formats": {
            **{
                kind: [export.formats[kind] for export in exports if kind in export.formats]
                for kind in get_args(Kind)
            },
            "depth_grids": list(get_args(Grid)),
            "files": [export.name for export in exports if export.name in SCENE_FILES],
            "orderable": list(OUTPUTS),
        },
        "exports": [export.describe() for export in exports],
        "options": Options.model_json_schema(),
        "limits": {
            **limits,
            "fetch_timeout": settings.access.fetch_timeout,
            "queue_limit": queue.queue_limit,
            "max_queue_seconds": queue.max_queue_seconds,
            "job_timeout": queue.job_timeout,
            "kept_reconstructions": storage.keep,
            "keep_hours": storage.keep_hours,
            "keep_bytes": storage.keep_bytes,
        },
        "refinement": {
            "installed": refinement_version() is not None,
            "default": settings.refinement.refine,
            "max_seconds": settings.refinement.refine_seconds,
            "max_memory_bytes": settings.refinement.refine_memory,
            "default_pixels": settings.refinement.refine_pixels,
        },
        "memory": {
            "budget_bytes": engine.planner.budget,
            "max_frames_per_pass": engine.planner.max_frames(side, side, most)
            if application.models.ready
            else None,
        },
        "authentication": "bearer" if application.restricted else "none",
        "gallery": application.gallery,
    }


def _urls(settings: AccessSettings) -> str:
    """What the form's field `urls` may name. Which hosts are listed is the operator's own
    business."""
    if not settings.fetch_urls:
        return "off"
    return "public https servers" if settings.fetch_hosts is None else "listed hosts"
