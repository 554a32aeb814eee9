"""Uploads that can be resumed, by the tus protocol; not in the description of the API, for clients
are made by the protocol's."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from service.errors import ServiceError
from service.http.protocol.headers import Asking
from service.inputs.body import Body
from service.inputs.resumable import ResumableUploads


def uploads_router(uploads: ResumableUploads) -> APIRouter:
    """The routes below /uploads. A HEAD request arrives as GET."""
    router = APIRouter(prefix="/uploads", include_in_schema=False)

    @router.options("")
    async def describe_uploads(request: Request, client: Asking) -> Response:
        return await uploads.describe(request, client)

    @router.post("")
    async def create_upload(request: Request, client: Asking) -> Response:
        return await uploads.create(request, client)

    @router.get("/{id}")
    async def get_upload(id: str, request: Request, client: Asking) -> Response:
        return await uploads.tell(request, client, id)

    @router.patch("/{id}")
    async def send_piece(id: str, request: Request, client: Asking) -> Response:
        try:
            return await uploads.receive(request, client, id)
        except ServiceError:
            await Body(request).linger()
            raise

    @router.delete("/{id}")
    def delete_upload(id: str, client: Asking) -> Response:
        return uploads.remove(client, id)

    return router
