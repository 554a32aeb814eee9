"""POST /reconstruct: pictures in, the result out or the address where it will be."""

from __future__ import annotations

import asyncio
from datetime import datetime, timezone
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

from service.application import Application
from service.errors import Cancelled, ServiceError, restored
from service.exports.links import served_at
from service.http.protocol.headers import (
    Asking,
    Preference,
    choose,
    read_idempotency_key,
    read_prefer,
)
from service.http.protocol.problems import (
    KINDS,
    MEDIA_TYPE,
    recorded_problem,
    refuse,
    retry_after,
)
from service.http.routes.documentation import RECONSTRUCT, documented, form_body
from service.inputs.body import Body, receive
from service.intake import DryRun, Submitted, Terms
from service.jobs.job import Job
from service.jobs.status import Status
from service.result.document import ReconstructionDocument, StatusDocument, StatusLinks
from service.states import JobState

UNUSED = ("not-found", "range-not-satisfiable", "not-finished", "worker-stuck")
"""The problems that a request with pictures never meets."""


def reconstruct_router(application: Application) -> APIRouter:
    """The route that takes pictures in."""
    router = APIRouter(tags=[RECONSTRUCT])

    @router.post(
        "/reconstruct",
        response_model=ReconstructionDocument,
        openapi_extra=form_body(),
        responses={
            202: {
                "model": StatusDocument,
                "description": "Accepted; Location says where the result will be",
            },
            **documented(*(code for code in KINDS if code not in UNUSED)),
        },
        summary="Reconstruct one scene",
        description="Answers with the result; with `Prefer: respond-async` at once with 202 and a "
        "Location to poll or follow; with `Prefer: wait=30` whichever comes first. Options may be "
        "form fields or query parameters. Identical pictures and options give the earlier result, "
        "unless `Cache-Control: no-cache` is sent.",
    )
    async def reconstruct(
        request: Request,
        client: Asking,
        prefer: Annotated[
            str | None,
            Header(
                description="how long to wait for the result (RFC 7240)",
                examples=["respond-async, wait=30"],
            ),
        ] = None,
        idempotency_key: Annotated[
            str | None,
            Header(
                description="a name of your own: a request sent again with it is not done twice, "
                "unless it failed or was cancelled; it goes on when the connection breaks",
                examples=["7c1f0a52-kitchen"],
            ),
        ] = None,
    ) -> Response:
        body = Body(request)
        outcome = ServiceError.code
        try:
            choose(request.headers.get("accept"), ("application/json", MEDIA_TYPE))
            preference = read_prefer(prefer)
            terms = Terms(
                client,
                read_idempotency_key(idempotency_key),
                reuse="no-cache" not in request.headers.get("cache-control", ""),
                detached=preference.wait is not None or idempotency_key is not None,
            )
            work = _reconstructed(application, request, body, terms, preference)
            answer, outcome = await body.unless_gone(work)
            return answer
        except ServiceError as error:
            outcome = error.code
            await body.linger()
            raise
        except (ClientDisconnect, asyncio.CancelledError):
            outcome = "disconnected"
            raise
        finally:
            application.submissions.count(outcome)

    return router


async def _reconstructed(
    application: Application, request: Request, body: Body, terms: Terms, preference: Preference
) -> tuple[Response, str]:
    """The answer, and what to count it as."""
    opener = application.uploads.opener(terms.client)
    upload = receive(body, application.settings.limits, application.fetcher, opener)
    submitted = await application.submissions.submit(upload, request.query_params, terms)
    if isinstance(submitted, DryRun):
        return JSONResponse(submitted.plan), "ok"
    job, timings = await application.reconstructions.wait(
        submitted, preference.wait, terms.detached
    )
    headers = {"Location": address(job.id)}
    if preference.applied is not None:
        headers["Preference-Applied"] = preference.applied
    return await asyncio.to_thread(_answer, application, submitted, job, timings, headers)


def _answer(
    application: Application,
    submitted: Submitted,
    job: Job,
    timings: dict[str, float],
    headers: dict[str, str],
) -> tuple[Response, str]:
    if job.state == JobState.SUCCEEDED:
        document = application.reconstructions.result(job)
        if not submitted.known:
            timings = timings or document.timings  # it ran on another replica
        headers |= {"Content-Location": address(job.id), **_server_timing(timings)}
        served = served_at(document, address(job.id))
        deliveries = application.deliveries.of(job.id)
        update = {"reused": submitted.known, "deliveries": deliveries}
        served = served.model_copy(update=update)
        return JSONResponse(served.model_dump(mode="json"), headers=headers), "ok"
    error: ServiceError | None = None
    if job.state == JobState.FAILED:
        error = restored(job.problem) if job.problem else ServiceError("The reconstruction failed.")
    elif job.state == JobState.CANCELLED:
        error = Cancelled("The reconstruction was cancelled before it was done.")
    if error is not None:
        return refuse(error, headers), error.code
    status = application.reconstructions.status(job)
    headers |= retry_after(min(status.eta_seconds or 1.0, 30.0))
    return JSONResponse(status_document(status), 202, headers=headers), "accepted"


def _server_timing(timings: dict[str, float]) -> dict[str, str]:
    stages = [f"{stage};dur={1000 * seconds:.1f}" for stage, seconds in timings.items()]
    return {"Server-Timing": ", ".join(stages)} if stages else {}


def address(id: str) -> str:
    """The path of a reconstruction."""
    return f"/reconstructions/{id}"


def status_document(status: Status) -> dict[str, Any]:
    """A StatusDocument as plain data for JSON."""
    job = status.job
    assert job.state != JobState.SUCCEEDED
    return StatusDocument(
        id=job.id,
        state=job.state,
        progress=status.progress,
        stage=status.stage,
        queue_position=status.queue_position,
        eta_seconds=status.eta_seconds,
        frames=job.frames,
        created=utc(job.created),
        started=None if job.started is None else utc(job.started),
        finished=None if job.finished is None else utc(job.finished),
        problem=recorded_problem(job.problem),
        links=StatusLinks(self=address(job.id), events=f"{address(job.id)}/events"),
    ).model_dump(mode="json")


def utc(seconds: float) -> datetime:
    """A moment, from seconds since the epoch."""
    return datetime.fromtimestamp(seconds, timezone.utc)
