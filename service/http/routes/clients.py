"""Who asks, as a parameter of every route that is not public."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from service.access import Client

_BEARER = HTTPBearer(auto_error=False, description="An API key; needed only where /capabilities says so.")


def client(request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)]) -> Client:
    """The client that a request's key belongs to. Raises KeyRequired."""
    found: Client = request.app.state.parts.access.client(None if credentials is None else credentials.credentials)
    return found


Asking = Annotated[Client, Depends(client)]
