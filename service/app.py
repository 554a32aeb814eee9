"""The HTTP side: routes, and one request's life from upload to answer.

The event loop only moves bytes. Decoding and pre-processing run on a small pool, the network on its own thread,
storing on the pool again, and downloads (plain ``def`` routes) on FastAPI's pool, so health answers throughout.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
from fastapi import FastAPI, Query, Request
from numpy.typing import NDArray
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import ClientDisconnect
from starlette.responses import HTMLResponse, JSONResponse, Response

from model.errors import ImageError
from model.preprocess import MODES, PreprocessedImages, preprocess_images
from service import __version__
from service.engine import Engine
from service.exports import CONFIDENCE_PERCENTILE, depth_npy, depth_png, depth_preview
from service.metrics import Metrics
from service.problems import MEDIA_TYPE, PROBLEMS, BrokenPicture, InvalidOption, NotFound, Problem, answer_problems
from service.result import ReconstructionDocument, describe
from service.scene import Grid, Scene, arrays_of
from service.settings import Settings
from service.storage import Storage, new_id
from service.uploads import FORMATS, Body, PictureFile, decode_pictures, receive

T = TypeVar("T")
Mode = Literal["fit", "crop", "pad"]
Confidence = Annotated[float, Query(ge=0, le=100, description="leave out points below this percentile of confidence")]
MaxPoints = Annotated[int | None, Query(ge=1, description="keep at most this many points, sampled evenly")]

_PAGE = Path(__file__).with_name("page.html")
_PAGE_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src 'self' blob: data:; connect-src 'self'; base-uri 'none'; form-action 'self'"
)
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["images"],
                    "properties": {
                        "images": {
                            "type": "array",
                            "minItems": 1,
                            "items": {"type": "string", "format": "binary"},
                            "description": "JPEG, PNG or WebP pictures of one scene, one part each. Their order "
                            "is the order of the result; the first one's camera is the world. "
                            "The name `files` is accepted too.",
                        },
                        "mode": {"type": "string", "enum": list(MODES)},
                    },
                }
            }
        },
    }
}


def _documented(*problems: str) -> dict[int | str, dict[str, Any]]:
    answers: dict[int | str, dict[str, Any]] = {}
    for problem in (PROBLEMS[slug] for slug in problems):
        known = answers.get(problem.status, {}).get("description")
        title = f"{known}, or: {problem.title}" if known else problem.title
        answers[problem.status] = {"description": title, "content": {MEDIA_TYPE: {}}}
    return answers


def create_app(settings: Settings, engine: Engine, on_failure: Callable[[], None] = lambda: None) -> FastAPI:
    """The service as an ASGI application.

    Its lifespan loads `engine`, closes it, and removes temporary results. `on_failure` is called if loading fails;
    the reason is then in ``engine.failure``.
    """
    storage = Storage(settings.data_dir, settings.keep)
    metrics = Metrics(settings.device, engine.capacity)
    metrics.queue_depth.set_function(lambda: engine.admitted)
    metrics.ready.set_function(lambda: float(engine.ready))
    model = engine.document()
    metrics.build.info(
        {"version": __version__, "model": model.name, "artifact": model.artifact, "device": model.device}
        | {"kernels": model.kernels}
    )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        loading = asyncio.create_task(engine.start(on_failure))
        try:
            yield
        finally:
            loading.cancel()
            await asyncio.to_thread(engine.close)
            storage.close()

    app = FastAPI(
        title="Reconstruction service",
        version=__version__,
        description="Pictures of one scene in; cameras, depth maps and a coloured point cloud out.",
        lifespan=lifespan,
        docs_url=None,  # both pages would load scripts from elsewhere
        redoc_url=None,
    )
    answer_problems(app)

    @app.post(
        "/reconstruct",
        response_model=ReconstructionDocument,
        openapi_extra=_BODY,
        responses=_documented(*(slug for slug in PROBLEMS if slug != "not-found")),
        summary="Reconstruct one scene",
    )
    async def reconstruct(request: Request, mode: Annotated[Mode | None, Query()] = None) -> Response:
        body = Body(request)
        stages: dict[str, float] = {}
        try:
            with _outcome(metrics), engine.admit():
                document = await _reconstruct(request, body, mode, stages)
        except Problem:
            await body.linger()
            raise
        finally:
            for stage, seconds in stages.items():
                metrics.stages.labels(stage).observe(seconds)
        metrics.frames.inc(len(document.pictures))
        timing = ", ".join(f"{stage};dur={1000 * seconds:.1f}" for stage, seconds in stages.items())
        return JSONResponse(_served(document), headers={"Server-Timing": timing})

    async def _reconstruct(
        request: Request, body: Body, mode: Mode | None, stages: dict[str, float]
    ) -> ReconstructionDocument:
        began = time.perf_counter()
        async with receive(body, settings) as upload:
            stages["upload"] = time.perf_counter() - began
            chosen = _mode(upload.options.get("mode"), mode, settings)
            names = [picture.name for picture in upload.pictures]
            batch, seconds = await _unless_gone(
                request, engine.prepare(prepare, upload.pictures, chosen, engine, settings)
            )
        stages.update(seconds)
        inference = await _unless_gone(request, engine.run(batch))
        stages["queue"], stages["network"] = inference.queue_seconds, inference.network_seconds

        def store() -> ReconstructionDocument:
            started = time.perf_counter()
            document = describe(
                inference.reconstruction,
                id=new_id(),
                created=datetime.now(timezone.utc),
                mode=chosen,
                model=model,
                timings=stages,
                filenames=names,
            )
            storage.save(document.id, arrays_of(inference.reconstruction), document.model_dump_json().encode())
            stages["store"] = time.perf_counter() - started
            return document

        return await engine.prepare(store)

    @app.get("/reconstructions/{id}", response_model=ReconstructionDocument, responses=_documented("not-found"))
    def reconstruction(id: str) -> Response:
        return JSONResponse(_served(ReconstructionDocument.model_validate_json(storage.result(id))))

    @app.get("/reconstructions/{id}/points.ply", responses=_documented("not-found", "invalid-option"))
    def points(id: str, confidence: Confidence = CONFIDENCE_PERCENTILE, max_points: MaxPoints = None) -> Response:
        with _timed_export(metrics):
            content = Scene.stored(storage, id).ply(percentile=confidence, max_points=max_points)
        return _download(content, "application/octet-stream", "points.ply")

    @app.get("/reconstructions/{id}/depth/{index}.png", responses=_documented("not-found", "invalid-option"))
    def depth_as_png(id: str, index: int, grid: Grid = "original") -> Response:
        with _timed_export(metrics):
            scene = Scene.stored(storage, id)
            depth = _depth(scene, index, grid)
            scale = scene.document.pictures[index].depth.png_scale
            content = depth_png(depth, scale)
        return _download(content, "image/png", f"depth-{index}.png", {"X-Depth-Scale": repr(scale)})

    @app.get("/reconstructions/{id}/depth/{index}.npy", responses=_documented("not-found", "invalid-option"))
    def depth_as_npy(id: str, index: int, grid: Grid = "original") -> Response:
        with _timed_export(metrics):
            content = depth_npy(_depth(Scene.stored(storage, id), index, grid))
        return _download(content, "application/octet-stream", f"depth-{index}.npy")

    @app.get("/reconstructions/{id}/depth/{index}/preview.png", responses=_documented("not-found", "invalid-option"))
    def depth_as_preview(id: str, index: int, grid: Grid = "original") -> Response:
        with _timed_export(metrics):
            content = depth_preview(_depth(Scene.stored(storage, id), index, grid))
        return _download(content, "image/png", f"depth-{index}-preview.png")

    @app.get("/livez", summary="Is the process alive?")
    async def alive() -> dict[str, str]:
        return {"status": "alive"}

    @app.get("/readyz", summary="Is the model loaded and warmed up?", responses=_documented("not-ready"))
    async def ready() -> dict[str, str]:
        _ = engine.net
        return {"status": "ready"}

    @app.get("/metrics", summary="Prometheus metrics", response_class=Response)
    async def exposition() -> Response:
        return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)

    @app.get("/capabilities", summary="Limits, formats and the model")
    async def capabilities() -> dict[str, Any]:
        return {
            "version": __version__,
            "model": model.model_dump(),
            "network": {"image_size": engine.image_size, "patch_size": engine.patch_size},
            "modes": list(MODES),
            "default_mode": settings.mode,
            "input_formats": list(FORMATS),
            "output_formats": {
                "points": ["ply"],
                "depth": ["png", "npy", "preview"],
                "depth_grids": ["original", "network"],
            },
            "limits": {
                "max_images": settings.max_images,
                "max_image_bytes": settings.max_image_bytes,
                "max_total_bytes": settings.max_total_bytes,
                "max_pixels": settings.max_pixels,
                "max_total_pixels": settings.max_total_pixels,
                "queue_limit": settings.queue_limit,
                "upload_timeout": settings.upload_timeout,
                "kept_reconstructions": settings.keep,
            },
        }

    @app.get("/problems/{slug}", summary="What a problem's type means", responses=_documented("not-found"))
    async def problem(slug: str) -> dict[str, Any]:
        if slug not in PROBLEMS:
            raise NotFound("There is no such problem type.")
        kind = PROBLEMS[slug]
        return {"type": f"/problems/{slug}", "title": kind.title, "status": kind.status, "meaning": kind.__doc__}

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    def page() -> HTMLResponse:
        return HTMLResponse(_PAGE.read_text("utf-8"), headers={"Content-Security-Policy": _PAGE_POLICY})

    return app


def prepare(
    pictures: Sequence[PictureFile], mode: str, engine: Engine, settings: Settings
) -> tuple[PreprocessedImages, dict[str, float]]:
    """Decode and pre-process one scene's pictures; also the seconds of each stage. Raises a Problem."""
    started = time.perf_counter()
    images = decode_pictures(pictures, settings)
    decoded = time.perf_counter()
    try:
        batch = preprocess_images(images, mode=mode, image_size=engine.image_size, patch_size=engine.patch_size)
    except ImageError as error:
        raise BrokenPicture(f"A picture can't be used: {error}.") from None
    return batch, {"decode": decoded - started, "preprocess": time.perf_counter() - decoded}


def _mode(in_form: str | None, in_query: Mode | None, settings: Settings) -> str:
    mode = in_form or in_query or settings.mode
    if mode not in MODES:
        raise InvalidOption(f"mode is {mode[:40]!r}; choose one of {', '.join(MODES)}.", modes=list(MODES))
    return mode


def _served(document: ReconstructionDocument) -> dict[str, Any]:
    return document.served_at(f"/reconstructions/{document.id}").model_dump(mode="json")


def _depth(scene: Scene, index: int, grid: Grid) -> NDArray[np.float32]:
    last = len(scene.document.pictures) - 1
    if not 0 <= index <= last:
        raise NotFound(f"This reconstruction has pictures 0 to {last}; {index} was asked for.")
    return scene.depth_map(index, grid)


def _download(content: bytes, media_type: str, name: str, headers: dict[str, str] | None = None) -> Response:
    kind = "inline" if media_type.startswith("image/") else "attachment"
    fixed = {"Content-Disposition": f'{kind}; filename="{name}"', "X-Content-Type-Options": "nosniff"}
    return Response(content, media_type=media_type, headers=fixed | (headers or {}))


@contextmanager
def _timed_export(metrics: Metrics) -> Iterator[None]:
    started = time.perf_counter()
    yield
    metrics.stages.labels("export").observe(time.perf_counter() - started)


@contextmanager
def _outcome(metrics: Metrics) -> Iterator[None]:
    outcome = Problem.slug
    try:
        yield
        outcome = "ok"
    except Problem as problem:
        outcome = problem.slug
        raise
    except (ClientDisconnect, asyncio.CancelledError):
        outcome = "disconnected"
        raise
    finally:
        metrics.requests.labels(outcome).inc()


async def _unless_gone(request: Request, work: Awaitable[T]) -> T:
    """The result of `work`; if the client goes away first, cancel it and raise ClientDisconnect."""
    task = asyncio.ensure_future(work)
    gone = asyncio.create_task(_gone(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientDisconnect
    finally:
        gone.cancel()
        task.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
