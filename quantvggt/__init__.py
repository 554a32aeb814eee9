"""Pictures in, geometry out: a client of the reconstruction service, and the command `quantvggt`.

    from quantvggt import Client
    result = Client("http://127.0.0.1:8000").reconstruct(["a.jpg", "b.jpg"])

Importing costs nothing: each name brings its own module in when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quantvggt.client import AsyncClient, Client
    from quantvggt.errors import BadInputError, ServiceError
    from quantvggt.result import Camera, Result

__version__ = "0.1.0"

__all__ = [
    "AsyncClient",
    "BadInputError",
    "Camera",
    "Client",
    "Result",
    "ServiceError",
    "__version__",
]

_HOMES = {
    "AsyncClient": "client",
    "BadInputError": "errors",
    "Camera": "result",
    "Client": "client",
    "Result": "result",
    "ServiceError": "errors",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
