"""GET /usage: what an API key has used of what it may use."""

from __future__ import annotations

from dataclasses import asdict

from fastapi import APIRouter
from pydantic import BaseModel, Field

from service.application import Application
from service.errors import NotFound
from service.http.protocol.headers import Asking
from service.http.routes.documentation import SERVICE, documented


class UsedDocument(BaseModel):
    """How much of one quota is used."""

    used: int | float
    limit: int | float | None = Field(description="null for none")


class UsageDocument(BaseModel):
    """What the API key that asks has used up to now."""

    name: str = Field(description="whose key it is")
    per_hour: UsedDocument = Field(description="reconstructions started in the last hour")
    megapixels_per_hour: UsedDocument = Field(description="of pictures sent in the last hour")
    megapixels_per_day: UsedDocument = Field(description="of pictures sent in the last 24 hours")
    stored_bytes: UsedDocument = Field(description="of the results that are kept")


def usage_router(application: Application) -> APIRouter:
    """What a key asks about itself."""
    router = APIRouter(tags=[SERVICE])

    @router.get(
        "/usage",
        response_model=UsageDocument,
        responses=documented("key-required", "not-found", "store-unavailable"),
        summary="What your API key has used of its quotas",
    )
    def get_usage(client: Asking) -> UsageDocument:
        if client.quota is None:
            raise NotFound("This service has no API keys, so it counts nobody's use.")
        used = asdict(application.used(client.name)[client.name])
        limits = asdict(client.quota)
        return UsageDocument(
            name=client.name,
            **{name: UsedDocument(used=used[name], limit=limits[name]) for name in limits},
        )

    return router
