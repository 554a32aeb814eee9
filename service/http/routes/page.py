"""The pages at / and /docs and what they load: a fixed set of files, nothing from elsewhere."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, Response

from service.errors import NotFound

WEB = Path(__file__).parents[1] / "web"
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_TYPES = {
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
    ".txt": "text/plain",
}
_PICTURES = {".jpg": "image/jpeg", ".png": "image/png"}
_SAMPLES = Path(__file__).parents[2] / "samples"


def page_router() -> APIRouter:
    """The pages, their scripts and styles, and the sample pictures that the first can send."""
    router = APIRouter(include_in_schema=False)
    files = {path.name: path for path in WEB.iterdir() if path.suffix in _TYPES}
    samples = {
        (path.parent.name, path.name): path
        for path in _SAMPLES.glob("*/*")
        if path.suffix in _PICTURES
    }

    for path, file in (("/", "index.html"), ("/docs", "docs.html")):
        router.add_api_route(path, _page((WEB / file).read_text("utf-8")), name=file)

    @router.get("/web/{name}")
    def script(name: str, request: Request) -> Response:
        if name not in files:
            raise NotFound("There is no such file.")
        content = files[name].read_bytes()
        return _static(request, content, _TYPES[files[name].suffix])

    @router.get("/samples/{group}/{name}")
    def sample(group: str, name: str, request: Request) -> Response:
        if (group, name) not in samples:
            raise NotFound("There is no such sample.")
        path = samples[group, name]
        return _static(request, path.read_bytes(), _PICTURES[path.suffix])

    return router


def _page(html: str) -> Callable[[], HTMLResponse]:
    headers = {"Content-Security-Policy": _POLICY, "Cache-Control": "no-cache"}
    return lambda: HTMLResponse(html, headers=headers)


def _static(request: Request, content: bytes, media_type: str) -> Response:
    etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    # asked for each time, sent again only when changed
    headers = {"ETag": etag, "Cache-Control": "no-cache"}
    if request.headers.get("if-none-match") == etag:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=media_type, headers=headers)
