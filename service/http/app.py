"""The service as an ASGI application: its routes, and what surrounds every exchange."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from pydantic.alias_generators import to_camel
from starlette.middleware.cors import CORSMiddleware

from service import __version__
from service.application import Application
from service.http.middleware import Exchange
from service.http.origin import OwnPagesOnly, names_of
from service.http.protocol.problems import answer_errors
from service.http.routes.batches import batches_router
from service.http.routes.documentation import TAGS, describe
from service.http.routes.files import files_router
from service.http.routes.models import models_router
from service.http.routes.operations import operations_router
from service.http.routes.page import page_router
from service.http.routes.reconstruct import reconstruct_router
from service.http.routes.reconstructions import reconstructions_router
from service.http.routes.uploads import uploads_router
from service.http.routes.usage import usage_router
from service.result.warnings import warnings_about
from service.settings import refinement_version

# what pages of sites in --cors-origin may send, and may read of an answer
_REQUEST_HEADERS = (
    "Authorization",
    "Cache-Control",
    "Idempotency-Key",
    "If-None-Match",
    "Last-Event-ID",
    "Owner-Token",
    "Prefer",
    "Range",
    "Tus-Resumable",
    "Upload-Length",
    "Upload-Metadata",
    "Upload-Offset",
)
_ANSWER_HEADERS = (
    "Content-Disposition",
    "Content-Location",
    "Content-Range",
    "ETag",
    "Location",
    "Preference-Applied",
    "Retry-After",
    "Server-Timing",
    "Tus-Resumable",
    "Upload-Length",
    "Upload-Offset",
    "X-Depth-Scale",
    "X-Request-ID",
)

_log = logging.getLogger("service")


def create_app(application: Application) -> FastAPI:
    """The HTTP side of `application`, which its lifespan starts and stops."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        refinable = refinement_version() is not None
        for name, engine in application.models.engines.items():
            for warning in warnings_about(engine.document(), refinable=refinable):
                _log.warning("%s: %s", name, warning.message)
        await application.start()
        try:
            yield
        finally:
            await application.stop()

    app = FastAPI(
        title="Reconstruction service",
        version=__version__,
        description="Pictures of one scene in; cameras, depth maps and a coloured point cloud out.",
        lifespan=lifespan,
        openapi_tags=TAGS,
        generate_unique_id_function=lambda route: to_camel(route.name),
        docs_url=None,  # both pages would load scripts from elsewhere; ours is in the page's router
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.application = application
    answer_errors(app)
    for router in (
        reconstruct_router(application),
        reconstructions_router(application),
        files_router(application),
        batches_router(application),
        models_router(application),
        operations_router(application),
        usage_router(application),
        page_router(),
    ):
        app.include_router(router)
    if application.uploads.on:
        app.include_router(uploads_router(application.uploads))
    server, access = application.settings.server, application.settings.access
    if access.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=access.cors_origins,
            allow_methods=["GET", "HEAD", "POST", "PATCH", "DELETE"],
            allow_headers=_REQUEST_HEADERS,
            expose_headers=_ANSWER_HEADERS,
        )
    app.add_middleware(
        OwnPagesOnly,
        hosts=names_of(server.host, access.allowed_hosts),
        origins=access.cors_origins,
    )
    app.add_middleware(Exchange)  # the outermost: also what fails unexpectedly gets its headers

    generate = app.openapi
    app.openapi = lambda: describe(generate())  # type: ignore[method-assign]
    return app
