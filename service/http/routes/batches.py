"""Batches: a table of scenes in, one reconstruction a scene, all results in one archive."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from typing import Annotated, Any

import anyio
from fastapi import APIRouter, Path, Query, Request
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response, StreamingResponse

from service.application import Application
from service.batches import SceneProgress
from service.errors import (
    InvalidOption,
    NotFinished,
    NotFound,
    ResultDamaged,
    ServiceError,
)
from service.exports.archive import joined_archives
from service.exports.records import BY_NAME
from service.http.protocol.documents import document_body, read_document
from service.http.protocol.headers import Asking
from service.http.protocol.problems import KINDS, recorded_problem
from service.http.routes.documentation import BATCHES, documented, form_body
from service.http.routes.reconstruct import UNUSED, address, utc
from service.inputs.body import Body, receive
from service.inputs.remote.hosts import URL_LENGTH
from service.jobs.batches import Batch, SceneRequest
from service.result.file import MadeFile

_MOST_SCENES = 1000
_MOST_BYTES = 4 * 2**20  # of a table
_MOST_LISTED = 100
_ARCHIVE_THREADS = 4  # of their own, for on them archives wait until files are made
_NAME_LENGTH = 80
_ID = "9b2d8e0c4f5a11ee8c990242ac120002"
_ARCHIVE = BY_NAME["everything.zip"]

Id = Annotated[str, Path(description="The batch's id: 32 hexadecimal digits.", examples=[_ID])]


def _folder(name: str) -> str:
    if not name.isprintable() or name.strip() != name or name in (".", ".."):
        raise ValueError("must be printable and can be a folder's name")
    if any(character in name for character in '/\\:*?"<>|'):
        raise ValueError("must have none of / \\ : * ? \" < > |, since it becomes a folder's name")
    return name


def _apart(scenes: list[SceneManifest]) -> list[SceneManifest]:
    names = Counter(scene.name.casefold() for scene in scenes)
    if len(names) < len(scenes):
        twice = names.most_common(1)[0][0]
        raise ValueError(f"must have names that differ, not only by case; {twice!r} is there twice")
    return scenes


class SceneManifest(BaseModel):
    """One line of a batch's table."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, AfterValidator(_folder)] = Field(
        min_length=1, max_length=_NAME_LENGTH, examples=["kitchen"],
        description="what the scene is called, and its folder in the archive",
    )  # fmt: skip
    urls: list[Annotated[str, Field(min_length=1, max_length=URL_LENGTH)]] = Field(
        default_factory=list,
        examples=[["https://images.example.org/kitchen.zip"]],
        description="https URLs of its pictures, archives or videos, in order. Without any, the "
        "pictures are to be sent to /batches/{id}/scenes/{number}",
    )
    options: dict[str, Any] = Field(
        default_factory=dict, examples=[{"confidence": 50}],
        description="options of POST /reconstruct for this scene, beside those of the batch",
    )  # fmt: skip


class BatchManifest(BaseModel):
    """A table of scenes."""

    model_config = ConfigDict(extra="forbid")

    scenes: Annotated[list[SceneManifest], AfterValidator(_apart)] = Field(
        min_length=1, max_length=_MOST_SCENES, description="the table"
    )
    options: dict[str, Any] = Field(
        default_factory=dict, examples=[{"mode": "crop"}],
        description="options of POST /reconstruct for every scene",
    )  # fmt: skip


class BatchSceneDocument(BaseModel):
    """What became of a scene."""

    number: int = Field(description="its line in the table, from 0")
    name: str
    state: str = Field(
        description="expected (its pictures are to be sent), waiting (they are to be fetched), "
        "queued, running, cancelling, succeeded, failed, cancelled, or removed: its reconstruction "
        "is no longer kept"
    )
    progress: float = Field(description="from 0 to 1")
    problem: dict[str, Any] | None = Field(
        description="why it failed, or what it waits for; a problem document"
    )
    link: str | None = Field(description="its reconstruction, null while there is none")


class BatchDocument(BaseModel):
    """A batch as it is now."""

    id: str
    created: datetime
    progress: float = Field(description="from 0 to 1: the mean of all scenes")
    ended: bool = Field(description="whether nothing more happens by itself")
    counts: dict[str, int] = Field(description="how many scenes are in each state")
    scenes: list[BatchSceneDocument]
    links: dict[str, str] = Field(description="addresses: self, retry, archive")


class BatchListDocument(BaseModel):
    """A page of batches, newest first; `next` leads to older ones."""

    batches: list[BatchDocument]
    next: str | None


def batches_router(application: Application) -> APIRouter:
    """The routes below /batches."""
    router = APIRouter(prefix="/batches", tags=[BATCHES])
    batches = application.batches
    archive_threads = anyio.CapacityLimiter(_ARCHIVE_THREADS)

    @router.post(
        "",
        status_code=201,
        response_model=BatchDocument,
        openapi_extra=document_body(BatchManifest),
        responses=documented(
            "malformed-body", "too-many-bytes", "invalid-option", "urls-off", "url-refused",
            "queue-full", "key-required", "store-unavailable", "storage-full",
        ),
        summary="Start a batch of scenes",
    )  # fmt: skip
    async def create_batch(request: Request, client: Asking) -> Response:
        manifest = await read_document(request, BatchManifest, _MOST_BYTES)
        for scene in manifest.scenes:
            if len(scene.urls) > application.settings.limits.max_images:
                raise InvalidOption(f"{scene.name}: urls has {len(scene.urls)} entries; at most "
                                    f"{application.settings.limits.max_images} are taken.",
                                    option="urls")  # fmt: skip
        scenes = [
            SceneRequest(scene.name, tuple(scene.urls), _texts(_options(manifest, scene)))
            for scene in manifest.scenes
        ]
        batch = await asyncio.to_thread(batches.create, client, scenes)
        document = await asyncio.to_thread(described, batch)
        return JSONResponse(document, 201, headers={"Location": _address(batch.id)})

    @router.get(
        "",
        response_model=BatchListDocument,
        responses=documented("invalid-option", "key-required", "store-unavailable"),
        summary="List batches, newest first",
    )
    def list_batches(
        client: Asking,
        limit: Annotated[
            int, Query(ge=1, le=_MOST_LISTED, description="how many at most", examples=[20])
        ] = 20,
        before: Annotated[
            str | None,
            Query(
                pattern="^[0-9a-f]{32}$",
                description="list those older than this one",
                examples=[_ID],
            ),
        ] = None,
    ) -> Response:
        found = batches.page(client, limit + 1, before)
        more = len(found) > limit
        listed = [described(batch) for batch in found[:limit]]
        following = f"/batches?limit={limit}&before={found[limit - 1].id}" if more else None
        return JSONResponse({"batches": listed, "next": following})

    @router.get(
        "/{id}",
        response_model=BatchDocument,
        responses=documented("not-found", "key-required", "store-unavailable"),
        summary="How far a batch is",
    )
    def get_batch(id: Id, client: Asking) -> Response:
        return JSONResponse(described(batches.find(client, id)))

    @router.post(
        "/{id}/scenes/{number}",
        response_model=BatchDocument,
        openapi_extra=form_body(),
        responses=documented(*(code for code in KINDS if code not in UNUSED), "not-found"),
        summary="Send the pictures of a scene",
        description="For a scene without `urls`, whose options are those of the table and of the "
        "form. What is under way or done stays as it is, so that sending again does no harm.",
    )
    async def send_scene(
        id: Id,
        number: Annotated[
            int, Path(ge=0, lt=_MOST_SCENES, description="the scene's line, from 0", examples=[0])
        ],
        request: Request,
        client: Asking,
    ) -> Response:
        body = Body(request)
        outcome = ServiceError.code
        try:
            opener = application.uploads.opener(client)
            upload = receive(body, application.settings.limits, application.fetcher, opener)
            await body.unless_gone(batches.send(client, id, number, upload))
            await body.linger()
            outcome = "accepted"
        except ServiceError as error:
            outcome = error.code
            await body.linger()
            raise
        except (ClientDisconnect, asyncio.CancelledError):
            outcome = "disconnected"
            raise
        finally:
            application.submissions.count(outcome)
        batch = await asyncio.to_thread(batches.find, client, id)
        return JSONResponse(await asyncio.to_thread(described, batch))

    @router.post(
        "/{id}/retry",
        response_model=BatchDocument,
        responses=documented("not-found", "not-yours", "key-required", "store-unavailable"),
        summary="Begin the scenes anew that have ended without a result",
    )
    def retry_batch(id: Id, client: Asking) -> Response:
        batches.retry(client, id)
        return JSONResponse(described(batches.find(client, id)))

    @router.get(
        "/{id}/archive.zip",
        response_class=Response,
        responses={
            200: {
                "description": "A zip archive: a folder a scene, and batch.json",
                "content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}},
            },
            **documented("not-found", "not-finished", "key-required", "store-unavailable"),
        },
        summary="The files of all scenes that have a result",
    )
    def get_batch_archive(id: Id, client: Asking) -> Response:
        batch = batches.find(client, id)
        if not any(batches.results(batch)):
            raise NotFinished("No scene of this batch has a result yet.", retry_after=5)

        def archives() -> Iterator[tuple[str, MadeFile]]:
            for name, job in batches.results(batch):
                try:
                    files = application.catalogue.files(job.result, insist=True)
                    yield name, files.file(_ARCHIVE)
                except (NotFound, ResultDamaged):
                    continue  # the scene's own address says so

        content = joined_archives(archives(), "batch.json", lambda: json.dumps(described(batch)))
        headers = {
            "Content-Disposition": f'attachment; filename="batch-{id[:8]}.zip"',
            "Cache-Control": "no-store",
        }
        pieces = _on(archive_threads, content)
        return StreamingResponse(pieces, media_type="application/zip", headers=headers)

    @router.delete(
        "/{id}",
        status_code=204,
        responses=documented("not-found", "not-yours", "key-required", "store-unavailable"),
        summary="Cancel what is under way, and remove the batch with its results",
    )
    def delete_batch(id: Id, client: Asking) -> Response:
        batches.remove(client, id)
        return Response(status_code=204)

    def described(batch: Batch) -> dict[str, Any]:
        return _document(batch, batches.scenes(batch))

    return router


async def _on(threads: anyio.CapacityLimiter, content: Iterator[bytes]) -> AsyncIterator[bytes]:
    """The pieces of `content`, each made on one of these threads."""
    while (
        piece := await anyio.to_thread.run_sync(next, content, None, limiter=threads)
    ) is not None:
        yield piece


def _options(manifest: BatchManifest, scene: SceneManifest) -> dict[str, Any]:
    """Those of a scene, of which each has a folder of its own below the batch's `output`."""
    common = manifest.options
    if isinstance(common.get("output"), str):
        common = {**common, "output": f"{common['output'].rstrip('/')}/{scene.name}"}
    return {**common, **scene.options}


def _texts(options: dict[str, Any]) -> dict[str, str]:
    """Options as a form has them."""
    return {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in options.items()
        if value is not None
    }


def _address(id: str) -> str:
    return f"/batches/{id}"


def _document(batch: Batch, lines: list[SceneProgress]) -> dict[str, Any]:
    own = _address(batch.id)
    return BatchDocument(
        id=batch.id,
        created=utc(batch.created),
        progress=sum(line.progress for line in lines) / max(len(lines), 1),
        ended=all(line.ended for line in lines),
        counts=dict(Counter(line.state for line in lines)),
        scenes=[
            BatchSceneDocument(
                number=line.scene.number,
                name=line.scene.name,
                state=line.state,
                progress=line.progress,
                problem=recorded_problem(line.problem),
                link=None if line.job is None else address(line.job.id),
            )
            for line in lines
        ],
        links={"self": own, "retry": f"{own}/retry", "archive": f"{own}/archive.zip"},
    ).model_dump(mode="json")
