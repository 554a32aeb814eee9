"""The files of a finished reconstruction, one route an export. Points may be asked for with other
options."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field, create_model
from starlette.responses import Response

from service.application import Application
from service.exports.export import Export
from service.exports.options import ExportOptions
from service.exports.records import BY_NAME, EXPORTS
from service.http.protocol.downloads import Download
from service.http.protocol.headers import Asking
from service.http.routes.documentation import FILES, Id, Index, file_answer


def files_router(application: Application) -> APIRouter:
    """Every download below /reconstructions/{id}."""
    router = APIRouter(prefix="/reconstructions/{id}", tags=[FILES])
    # a path with more dots first: depth/0.source.png is not depth/{index}.png of "0.source"
    for export in sorted(EXPORTS, key=lambda export: export.name.count("."), reverse=True):
        router.add_api_route(
            f"/{export.name}",
            _download(application, export),
            responses=file_answer(export.media_type, export.summary),
            response_class=Response,
            name=f"download_{export.id}",
            summary=export.summary,
        )
    return router


def _download(application: Application, export: Export[Any]) -> Callable[..., Response]:
    """The route's function: it takes an index if there is one file a picture, options if the export
    has any."""

    def download(
        id: Id,
        request: Request,
        client: Asking,
        index: Index = 0,
        options: ExportOptions | None = None,
    ) -> Response:
        job = application.reconstructions.finished(client, id)
        asked = BY_NAME[export.variants.get(getattr(options, "format", ""), export.name)]
        with application.metrics.stages.labels("export").time():
            files = application.catalogue.files(job.result)
            made = files.file(asked, options, index)
        application.metrics.artifact_bytes.labels(asked.metric_label).inc(made.bytes)
        headers = dict(asked.headers(files.described(options).pictures[index]))
        return Download(
            request.headers, made, asked.media_type, asked.saved_name(id[:8], index), headers
        )

    signature = inspect.signature(download, eval_str=True)
    taken = {
        name: parameter
        for name, parameter in signature.parameters.items()
        if name not in ("index", "options")
    }
    if export.per_picture:
        taken["index"] = signature.parameters["index"].replace(default=inspect.Parameter.empty)
    query = _query(export)
    if query.model_fields:
        taken["options"] = signature.parameters["options"].replace(
            annotation=Annotated[query, Query()], default=inspect.Parameter.empty
        )
    download.__signature__ = signature.replace(parameters=list(taken.values()))  # type: ignore[attr-defined]
    return download


def _query(export: Export[Any]) -> type[BaseModel]:
    """The query parameters of an export: its options, and `format` where it stands for variants
    too."""
    if not export.variants:
        return export.options
    formats = ("binary", *export.variants)
    format: Any = (
        Literal[formats],
        Field("binary", examples=[formats[-1]], description="binary, or text"),
    )
    return create_model(f"{export.id}_query", __base__=export.options, format=format)
