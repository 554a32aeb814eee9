"""The reconstructions as resources: list, state or result, live events, dismissal."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Header, Path, Query, Request
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse

from service.application import Application
from service.errors import InvalidOption
from service.exports.links import served_at
from service.exports.records import BY_NAME, EXPORTS
from service.http.protocol.documents import document_body, read_document
from service.http.protocol.downloads import Download
from service.http.protocol.headers import Asking, choose
from service.http.protocol.problems import recorded_problem, retry_after
from service.http.routes.documentation import RECONSTRUCTIONS, Id, documented
from service.http.routes.reconstruct import address, status_document
from service.jobs.events import Event
from service.jobs.job import Job
from service.result.document import ReconstructionDocument, StatusDocument
from service.states import JobState

_JSON = "application/json"
_REPRESENTATIONS = {kind: export for export in EXPORTS for kind in export.accepted_as}
_MOST_LISTED = 100
_MOST_BYTES = 2**16  # of a name's document
_PREVIEW = BY_NAME["pictures/{index}/preview.jpg"]
_THUMBNAIL_SIDE = 320


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("must be printable, on one line")
    return text


class ListedDocument(BaseModel):
    """One line of the list. `thumbnail` is a small picture, null while there is no result."""

    id: str
    name: str | None
    state: JobState
    frames: int
    created: float
    finished: float | None
    link: str
    thumbnail: str | None


class NameDocument(BaseModel):
    """What a reconstruction is called in lists."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, AfterValidator(_printable)] | None = Field(
        max_length=120, description="the name, null for none", examples=["kitchen, morning"]
    )


class ListDocument(BaseModel):
    """A page of reconstructions, newest first; `next` leads to older ones."""

    reconstructions: list[ListedDocument]
    next: str | None


def reconstructions_router(application: Application) -> APIRouter:
    """The routes below /reconstructions that are not files."""
    router = APIRouter(prefix="/reconstructions", tags=[RECONSTRUCTIONS])

    @router.get(
        "",
        response_model=ListDocument,
        responses=documented("invalid-option", "key-required", "store-unavailable"),
        summary="List reconstructions, newest first",
    )
    def list_reconstructions(
        client: Asking,
        limit: Annotated[
            int, Query(ge=1, le=_MOST_LISTED, description="how many at most", examples=[20])
        ] = 20,
        before: Annotated[
            str | None,
            Query(
                pattern="^[0-9a-f]{32}$",
                description="list those older than this one",
                examples=["3f2504e04f8911d39a0c0305e82c3301"],
            ),
        ] = None,
        state: Annotated[
            JobState | None, Query(description="list those in this state", examples=["succeeded"])
        ] = None,
    ) -> Response:
        jobs = application.reconstructions.page(client, limit + 1, before, state)
        more = len(jobs) > limit
        names = application.reconstructions.names(jobs)
        listed = [
            ListedDocument(
                id=job.id,
                name=names.get(job.id),
                state=job.state,
                frames=job.frames,
                created=job.created,
                finished=job.finished,
                link=address(job.id),
                thumbnail=_thumbnail(job),
            )
            for job in jobs[:limit]
        ]
        following = None
        if more:
            query: dict[str, Any] = {
                "limit": limit,
                "before": listed[-1].id,
                **({"state": state} if state else {}),
            }
            following = f"/reconstructions?{urlencode(query)}"
        headers = {"Link": f'<{following}>; rel="next"'} if following else {}
        document = ListDocument(reconstructions=listed, next=following)
        return JSONResponse(document.model_dump(mode="json"), headers=headers)

    @router.get(
        "/{id}",
        response_model=ReconstructionDocument | StatusDocument,
        responses={
            200: {
                "description": "State or result; with Accept also the scene itself",
                "content": {kind: {} for kind in _REPRESENTATIONS},
            },
            **documented(
                "not-found",
                "not-acceptable",
                "key-required",
                "not-finished",
                "range-not-satisfiable",
                "store-unavailable",
            ),
        },
        summary="State, or the result once it is there",
    )
    def get_reconstruction(id: Id, request: Request, client: Asking) -> Response:
        job = application.reconstructions.find(client, id)
        chosen = choose(request.headers.get("accept"), (_JSON, *_REPRESENTATIONS))
        if chosen != _JSON:
            application.reconstructions.finished(client, id)
            export = _REPRESENTATIONS[chosen]
            made = application.catalogue.files(job.result).file(export)
            headers = {"Vary": "Accept"}
            return Download(request.headers, made, export.media_type, export.name, headers)
        headers = {"Vary": "Accept"}
        if job.state == JobState.SUCCEEDED:
            document = served_at(application.reconstructions.result(job), address(id))
            deliveries = application.deliveries.of(id)
            document = document.model_copy(update={"deliveries": deliveries})
            return JSONResponse(document.model_dump(mode="json"), headers=headers)
        status = application.reconstructions.status(job)
        if not job.ended:
            headers |= retry_after(min(status.eta_seconds or 1.0, 10.0))
        return JSONResponse(status_document(status), headers=headers)

    @router.delete(
        "/{id}",
        status_code=204,
        responses={
            202: {
                "model": StatusDocument,
                "description": "It is running and stops at its next step",
            },
            **documented("not-found", "not-yours", "key-required", "store-unavailable"),
        },
        summary="Cancel it if it waits or runs, else remove it and its files",
    )
    def delete_reconstruction(id: Id, client: Asking) -> Response:
        job = application.reconstructions.remove(client, id)
        if job is None:
            return Response(status_code=204)
        return JSONResponse(status_document(application.reconstructions.status(job)), 202)

    @router.patch(
        "/{id}",
        status_code=204,
        openapi_extra=document_body(NameDocument),
        responses=documented(
            "too-many-bytes", "not-found", "not-yours", "key-required", "store-unavailable"
        ),
        summary="Give it a name",
    )
    async def rename_reconstruction(id: Id, request: Request, client: Asking) -> Response:
        change = await read_document(request, NameDocument, _MOST_BYTES)
        name = (change.name or "").strip() or None
        await asyncio.to_thread(application.reconstructions.rename, client, id, name)
        return Response(status_code=204)

    @router.get(
        "/{id}/events",
        responses={
            200: {
                "description": "Server-sent events until it has ended",
                "content": {"text/event-stream": {}},
            },
            204: {"description": "It has ended and the client has seen that"},
            **documented(
                "not-found", "key-required", "not-acceptable", "invalid-option", "store-unavailable"
            ),
        },
        response_class=StreamingResponse,
        summary="Follow it: states, stages, progress",
    )
    async def follow_reconstruction(
        id: Id,
        request: Request,
        client: Asking,
        last_event_id: Annotated[
            str | None,
            Header(description="number of the last event that was received", examples=["12"]),
        ] = None,
    ) -> Response:
        choose(request.headers.get("accept"), ("text/event-stream",))
        after = _event_number(last_event_id)
        job = await asyncio.to_thread(application.reconstructions.find, client, id)
        if job.ended and after >= job.event:
            return Response(status_code=204)
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        content = _stream(application, job, after)
        return StreamingResponse(content, media_type="text/event-stream", headers=headers)

    @router.get(
        "/{id}/chunks/{number}/points.ply",
        responses={
            200: {
                "description": "A sample of its points, binary PLY, in the first chunk's world",
                "content": {"application/octet-stream": {}},
            },
            **documented("not-found", "key-required", "invalid-option", "store-unavailable"),
        },
        response_class=Response,
        summary="Points of a finished chunk while later ones are worked on",
    )
    def get_found_points(
        id: Id,
        number: Annotated[
            int, Path(ge=0, le=100_000, description="number of the chunk, from 0", examples=[0])
        ],
        client: Asking,
    ) -> Response:
        content = application.reconstructions.found_points(client, id, number)
        headers = {"Cache-Control": "no-store"}
        return Response(content, media_type="application/octet-stream", headers=headers)

    @router.get("/{id}/artifacts/{name:path}", include_in_schema=False)
    def artifact(id: str, name: str, request: Request) -> Response:
        query = f"?{request.url.query}" if request.url.query else ""
        return RedirectResponse(f"/reconstructions/{id[:64]}/{name}{query}", 308)

    return router


def _thumbnail(job: Job) -> str | None:
    """Where a small picture of a result is."""
    if job.state != JobState.SUCCEEDED:
        return None
    return f"{address(job.id)}/{_PREVIEW.name_of(0)}?max_side={_THUMBNAIL_SIDE}"


def _event_number(header: str | None) -> int:
    if header is None or not header.strip():
        return 0
    if not header.strip().isdecimal() or len(header) > 20:
        raise InvalidOption("Last-Event-ID is not the number of an event.", option="Last-Event-ID")
    return int(header)


async def _stream(application: Application, job: Job, after: int) -> AsyncIterator[bytes]:
    """The job's events as the standard for server-sent events wants them."""
    if not job.ended:
        status = await asyncio.to_thread(application.reconstructions.status, job)
        ahead = status.queue_position or 0
        yield f"retry: 1000\n: {job.state}, {ahead} before it\n\n".encode()
    async for event in application.reconstructions.follow(job, after):
        yield b": still here\n\n" if event is None else encoded(event, address(job.id))


def encoded(event: Event, reconstruction: str = "") -> bytes:
    """One server-sent event of the job at the address `reconstruction`."""
    data = dict(event.data)
    if event.kind == "chunk":
        data["links"] = {"points": f"{reconstruction}/chunks/{data['chunk']}/points.ply"}
    if "problem" in data:
        data["problem"] = recorded_problem(data["problem"])
    return f"id: {event.number}\nevent: {event.kind}\ndata: {json.dumps(data)}\n\n".encode()
