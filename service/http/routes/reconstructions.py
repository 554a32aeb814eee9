"""The reconstructions as resources: list, state or result, live events, dismissal."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Header, Query, Request
from pydantic import BaseModel
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse

from service.access import Client
from service.application import Parts
from service.exports.links import served_at
from service.exports.records import EXPORTS
from service.http.routes.clients import Asking
from service.http.routes.documentation import RECONSTRUCTIONS, Id, documented
from service.http.routes.downloads import Download
from service.http.routes.negotiation import choose
from service.jobs.events import Event
from service.jobs.job import Job, State
from service.jobs.status import status_of
from service.problems import InvalidOption, NotFinished, NotFound, retry_after
from service.result.document import ReconstructionDocument, StatusDocument

_JSON = "application/json"
_REPRESENTATIONS = {kind: export for export in EXPORTS for kind in export.accepted_as}
_MOST_LISTED = 100


class ListedDocument(BaseModel):
    """One line of the list."""

    id: str
    state: State
    frames: int
    created: float
    finished: float | None
    link: str


class ListDocument(BaseModel):
    """A page of reconstructions, newest first; `next` leads to older ones."""

    reconstructions: list[ListedDocument]
    next: str | None


def owned(parts: Parts, client: Client, id: str) -> Job:
    """The client's job. Raises NotFound, for another's as for none."""
    job = parts.store.get(id)
    if job is None or job.client != client.name:
        raise NotFound("There is no reconstruction of this id; it may have been removed to make room.")
    return job


def finished(parts: Parts, client: Client, id: str) -> Job:
    """The client's job, which has a result. Raises NotFound or NotFinished."""
    job = owned(parts, client, id)
    if not job.ended:
        raise NotFinished(f"The reconstruction is {job.state}; it has no files yet.", headers=retry_after(1))
    if job.state != "succeeded":
        raise NotFound(f"The reconstruction is {job.state}, so it has no files.")
    return job


def reconstructions_router(parts: Parts) -> APIRouter:
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
        limit: Annotated[int, Query(ge=1, le=_MOST_LISTED, description="how many at most", examples=[20])] = 20,
        before: Annotated[
            str | None,
            Query(
                pattern="^[0-9a-f]{32}$",
                description="list those older than this one",
                examples=["3f2504e04f8911d39a0c0305e82c3301"],
            ),
        ] = None,
        state: Annotated[State | None, Query(description="list those in this state", examples=["succeeded"])] = None,
    ) -> Response:
        if before is not None:
            try:
                owned(parts, client, before)
            except NotFound:
                raise InvalidOption("before is not the id of a reconstruction.", option="before") from None
        jobs = parts.store.page(client.name, limit + 1, before, state)
        more = len(jobs) > limit
        listed = [
            ListedDocument(
                id=job.id, state=job.state, frames=job.frames, created=job.created, finished=job.finished,
                link=f"/reconstructions/{job.id}",
            )
            for job in jobs[:limit]
        ]  # fmt: skip
        following = None
        if more:
            query: dict[str, Any] = {"limit": limit, "before": listed[-1].id, **({"state": state} if state else {})}
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
        job = owned(parts, client, id)
        chosen = choose(request.headers.get("accept"), (_JSON, *_REPRESENTATIONS))
        if chosen != _JSON:
            finished(parts, client, id)
            export = _REPRESENTATIONS[chosen]
            made = parts.catalogue.files(job.result).file(export)
            return Download(request.headers, made, export.media_type, export.name, {"Vary": "Accept"})
        headers = {"Vary": "Accept"}
        if job.state == "succeeded":
            document = served_at(parts.storage.result(job.result), f"/reconstructions/{id}")
            return JSONResponse(document.model_dump(mode="json"), headers=headers)
        status = status_of(job, parts.store, parts.worker)
        if not job.ended:
            headers |= retry_after(min(status.eta_seconds or 1.0, 10.0))
        return JSONResponse(status.model_dump(mode="json"), headers=headers)

    @router.delete(
        "/{id}",
        status_code=204,
        responses={
            202: {"model": StatusDocument, "description": "It is running and stops at its next step"},
            **documented("not-found", "key-required", "store-unavailable"),
        },
        summary="Cancel it if it waits or runs, else remove it and its files",
    )
    def delete_reconstruction(id: Id, client: Asking) -> Response:
        job = owned(parts, client, id)
        if job.state == "cancelled":  # dismissed already; its record says so until it is too old
            return Response(status_code=204)
        if job.ended:
            parts.store.forget(id)
            parts.storage.remove(job.result)
            return Response(status_code=204)
        job = parts.cancel(id) or job
        if job.state != "cancelling":
            return Response(status_code=204)
        return JSONResponse(status_of(job, parts.store, parts.worker).model_dump(mode="json"), 202)

    @router.get(
        "/{id}/events",
        responses={
            200: {"description": "Server-sent events until it has ended", "content": {"text/event-stream": {}}},
            204: {"description": "It has ended and the client has seen that"},
            **documented("not-found", "key-required", "not-acceptable", "invalid-option", "store-unavailable"),
        },
        response_class=StreamingResponse,
        summary="Follow it: states, stages, progress",
    )
    async def follow_reconstruction(
        id: Id,
        request: Request,
        client: Asking,
        last_event_id: Annotated[
            str | None, Header(description="number of the last event that was received", examples=["12"])
        ] = None,
    ) -> Response:
        choose(request.headers.get("accept"), ("text/event-stream",))
        after = _event_number(last_event_id)
        job = await asyncio.to_thread(owned, parts, client, id)
        if job.ended:
            end = Event(job.event, "end", _ended(job))
            if after >= end.number:
                return Response(status_code=204)
            return _stream(_once(end))
        return _stream(_live(parts, job, after))

    @router.get("/{id}/artifacts/{name:path}", include_in_schema=False)
    def artifact(id: str, name: str, request: Request) -> Response:
        query = f"?{request.url.query}" if request.url.query else ""
        return RedirectResponse(f"/reconstructions/{id[:64]}/{name}{query}", 308)

    return router


def _event_number(header: str | None) -> int:
    if header is None or not header.strip():
        return 0
    if not header.strip().isdecimal() or len(header) > 20:
        raise InvalidOption("Last-Event-ID is not the number of an event.", option="Last-Event-ID")
    return int(header)


def _ended(job: Job) -> dict[str, Any]:
    return {"state": job.state, "progress": 1.0, "problem": job.problem}


async def _once(event: Event) -> AsyncIterator[bytes]:
    yield event.encode()


async def _live(parts: Parts, job: Job, after: int) -> AsyncIterator[bytes]:
    status = await asyncio.to_thread(status_of, job, parts.store, parts.worker)
    yield f"retry: 1000\n: {status.state}, {status.queue_position or 0} before it\n\n".encode()
    heartbeat = parts.settings.heartbeat
    async for event in parts.events.follow(job.id, after, heartbeat):
        if event is not None:
            yield event.encode()
            continue
        yield b": still here\n\n"
        now = await asyncio.to_thread(parts.store.get, job.id)
        if now is None or now.ended:  # its history is gone, but its end is on record
            if now is not None:
                yield Event(now.event, "end", _ended(now)).encode()
            return


def _stream(content: AsyncIterator[bytes]) -> Response:
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(content, media_type="text/event-stream", headers=headers)
