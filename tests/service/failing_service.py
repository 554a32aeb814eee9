"""``python -m service`` as it is, but that every pass ends with the error that torch raises once a
kernel has touched memory that is not its own."""

from __future__ import annotations

import sys
from typing import Any

import torch

from quantvggt.command import main
from service import serve
from service.inference.engine import Engine
from service.inference.network_pass import Pass

ILLEGAL = (
    "CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be "
    "asynchronously reported at some other API call, so the stacktrace below might be incorrect."
)


class FailingEngine(Engine):
    def _infer(self, *arguments: Any) -> Pass:
        raise getattr(torch, "AcceleratorError", RuntimeError)(ILLEGAL)


if __name__ == "__main__":
    serve.Engine = FailingEngine  # type: ignore[misc]
    sys.exit(main())
