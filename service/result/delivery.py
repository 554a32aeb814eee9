"""What a result says of its files that were to be sent somewhere."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field


class DeliveryDocument(BaseModel):
    """One file that a request wanted sent to a URL of its own (`output_urls`)."""

    file: str = Field(description="the file's name")
    host: str = Field(description="the host that it is sent to; the URL stays secret")
    state: Literal["pending", "delivered", "failed"]
    attempts: int = Field(description="how often it was tried")
    reason: str | None = Field(description="why the last attempt failed; null for none")
