"""POST /reconstruct: one request's life from upload to answer, waiting for the result or not.

The event loop only moves bytes. Decoding and pre-processing run on a small pool, the network on the worker's thread,
and downloads (plain ``def`` routes) on FastAPI's pool, so health answers throughout.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Header, Request
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

from model.scene.shrinking import shrunk
from service.access import Client
from service.application import Parts, UploadPlace
from service.exports.links import served_at
from service.http.routes.clients import Asking
from service.http.routes.documentation import RECONSTRUCT, documented, form_body
from service.http.routes.negotiation import Preference, choose, read_idempotency_key, read_prefer
from service.inputs.body import Body, receive
from service.inputs.options import read_options
from service.inputs.prepared import PreparedScene, prepare
from service.inputs.remote.fetcher import Fetcher
from service.jobs.job import Job, new_id
from service.jobs.status import status_of
from service.problems import MEDIA_TYPE, PROBLEMS, Cancelled, Problem, StoreUnavailable, restored, retry_after
from service.result.document import ReconstructionDocument, StatusDocument
from service.telemetry.metrics import REJECTIONS

_GRACE_SECONDS = 5.0  # beyond a job's deadline, for the worker to say so itself
_UNUSED = ("not-found", "range-not-satisfiable", "not-finished", "worker-stuck")


@dataclass(frozen=True)
class _Asked:
    """What the headers of a request say."""

    client: Client
    preference: Preference
    key: str | None
    reuse: bool


def reconstruct_router(parts: Parts) -> APIRouter:
    """The route that takes pictures in."""
    router = APIRouter(tags=[RECONSTRUCT])
    submission = _Submission(parts)

    @router.post(
        "/reconstruct",
        response_model=ReconstructionDocument,
        openapi_extra=form_body(),
        responses={
            202: {"model": StatusDocument, "description": "Accepted; Location says where the result will be"},
            **documented(*(slug for slug in PROBLEMS if slug not in _UNUSED)),
        },
        summary="Reconstruct one scene",
        description="Answers with the result; with `Prefer: respond-async` at once with 202 and a Location to poll or "
        "follow; with `Prefer: wait=30` whichever comes first. Options may be form fields or query parameters. "
        "Identical pictures and options give the earlier result, unless `Cache-Control: no-cache` is sent.",
    )
    async def reconstruct(
        request: Request,
        client: Asking,
        prefer: Annotated[
            str | None,
            Header(description="how long to wait for the result (RFC 7240)", examples=["respond-async, wait=30"]),
        ] = None,
        idempotency_key: Annotated[
            str | None,
            Header(
                description="a name of your own: a request sent again with it is not done twice",
                examples=["7c1f0a52-kitchen"],
            ),
        ] = None,
    ) -> Response:
        body = Body(request)
        try:
            with _outcome(parts) as outcome:
                choose(request.headers.get("accept"), ("application/json", MEDIA_TYPE))
                asked = _Asked(
                    client,
                    read_prefer(prefer),
                    read_idempotency_key(idempotency_key),
                    reuse="no-cache" not in request.headers.get("cache-control", ""),
                )
                answer = await submission.answer(request, body, asked)
                outcome.append("ok" if answer.status_code == 200 else "accepted")
                return answer
        except Problem:
            await body.linger()
            raise

    return router


class _Submission:
    """From a request to a job, and from a job to an answer."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._fetcher = Fetcher(parts.settings) if parts.settings.fetch_urls else None

    async def answer(self, request: Request, body: Body, asked: _Asked) -> Response:
        parts = self._parts
        parts.check_serving()
        await asyncio.to_thread(parts.storage.check_room)
        async with parts.upload_place() as place:
            prepared = await self._read(request, body)
            frames, height, width, _ = prepared.pixels.shape
            plan = parts.engine.planner.plan(frames, height, width)
            if prepared.options.query_points is not None:
                parts.engine.check_tracks(*shrunk(height, width, plan.factor, parts.engine.patch_size))
            if prepared.options.dry_run:
                told = {"frames": plan.frames, "network_size": _size(prepared), **plan.document()}
                return JSONResponse({"dry_run": True, **told})
            job = await asyncio.to_thread(self._submit, place, prepared, plan.cost.seconds, asked)
        new = job.state == "queued" and not job.attempts
        parts.worker.notify()
        timings: dict[str, float] = {}
        if not job.ended:
            job, timings = await self._wait(body, job, asked.preference, mine=new)
        return await asyncio.to_thread(self._respond, job, asked, timings, reused=not new)

    async def _read(self, request: Request, body: Body) -> PreparedScene:
        parts = self._parts
        began = time.perf_counter()
        async with receive(body, parts.settings, self._fetcher) as upload:
            seconds = time.perf_counter() - began
            parts.metrics.stages.labels("upload").observe(seconds)
            options = read_options({**dict(request.query_params), **upload.options})
            engine = parts.engine
            if options.query_points is not None:  # before decoding; the pictures' own size is not known yet
                engine.check_tracks(engine.image_size, engine.image_size)
            work = parts.on_pictures(prepare, upload, options, parts.settings, engine.image_size, engine.patch_size)
            prepared = await body.unless_gone(work)
        prepared.seconds["upload"] = seconds
        return prepared

    def _submit(self, place: UploadPlace, prepared: PreparedScene, seconds: float, asked: _Asked) -> Job:
        parts = self._parts
        fingerprint = prepared.fingerprint(parts.engine.digest)
        known = parts.store.known(asked.client.name, fingerprint, asked.key, asked.reuse)
        if known is not None:
            return known
        limit = min(prepared.options.timeout or parts.settings.job_timeout, parts.settings.job_timeout)
        now = time.time()
        job = Job(new_id(), asked.client.name, fingerprint, len(prepared.pixels), seconds, now + limit, now)
        parts.storage.accept(job.id, prepared.save)
        try:
            added = parts.add_job(place, job, asked.key, asked.reuse, asked.client)
        except StoreUnavailable:
            raise  # the job may have been recorded all the same; if not, its input is swept away
        except BaseException:
            parts.storage.drop_incoming(job.id)
            raise
        if added.id != job.id:
            parts.storage.drop_incoming(job.id)
        else:
            parts.events.publish(job.id, "state", {"state": "queued", "progress": 0.0}, number=added.event)
        return added

    async def _wait(self, body: Body, job: Job, preference: Preference, mine: bool) -> tuple[Job, dict[str, float]]:
        """The job when it has ended, or when the client waits no longer. A client that leaves takes its job along."""
        parts = self._parts
        patience = max(job.deadline - time.time(), 0.0) + _GRACE_SECONDS
        if preference.wait is not None:
            patience = min(patience, preference.wait)
        ended = None
        if patience > 0:
            try:
                ended = await body.unless_gone(parts.events.wait_for_end(job.id, patience))
            except (ClientDisconnect, asyncio.CancelledError):
                if mine and preference.wait is None:
                    await asyncio.shield(asyncio.to_thread(parts.cancel, job.id))
                raise
        now = await asyncio.to_thread(parts.store.get, job.id)
        return now or job, {} if ended is None else ended.data["timings"]

    def _respond(self, job: Job, asked: _Asked, timings: dict[str, float], reused: bool) -> Response:
        parts = self._parts
        address = f"/reconstructions/{job.id}"
        headers = {"Location": address}
        if asked.preference.applied is not None:
            headers["Preference-Applied"] = asked.preference.applied
        if job.state == "succeeded":
            if reused:
                parts.metrics.reused.inc()
            document = parts.storage.result(job.result)
            served = served_at(document, address).model_copy(update={"reused": reused})
            if not reused:
                timings = timings or document.timings  # it ran on another replica
            timing = ", ".join(f"{stage};dur={1000 * seconds:.1f}" for stage, seconds in timings.items())
            if timing:
                headers["Server-Timing"] = timing
            headers["Content-Location"] = address
            return JSONResponse(served.model_dump(mode="json"), headers=headers)
        if job.state == "failed":
            problem = restored(job.problem or Problem("The reconstruction failed.").document(), headers)
            if problem.status == 503:
                problem.headers |= retry_after()
            raise problem
        if job.state == "cancelled":
            raise Cancelled("The reconstruction was cancelled before it was done.", headers=headers)
        status = status_of(job, parts.store, parts.worker)
        return JSONResponse(
            status.model_dump(mode="json"),
            202,
            headers={**headers, **retry_after(min(status.eta_seconds or 1.0, 30.0))},
        )


def _size(prepared: PreparedScene) -> dict[str, int]:
    return {"height": prepared.pixels.shape[1], "width": prepared.pixels.shape[2]}


@contextmanager
def _outcome(parts: Parts) -> Iterator[list[str]]:
    """Counts a request by how it ended: what is appended to the list, or the problem that was raised."""
    outcome: list[str] = []
    try:
        yield outcome
    except Problem as problem:
        outcome.append(problem.slug)
        if problem.slug in REJECTIONS:
            parts.metrics.rejected.labels(problem.slug).inc()
        raise
    except (ClientDisconnect, asyncio.CancelledError):
        outcome.append("disconnected")
        raise
    finally:
        parts.metrics.requests.labels(outcome[-1] if outcome else Problem.slug).inc()
