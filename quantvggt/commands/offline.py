"""What the commands of the offline side have in common: threads, devices, errors, and how they
print."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from quantvggt.errors import BadInputError


@contextmanager
def offline(device: str | None = None, *refusals: type[Exception]) -> Iterator[None]:
    """Within it torch keeps to the cores that it may use, and what the offline side refuses is bad
    input.

    It refuses by ValueError, FileNotFoundError and `refusals`.
    """
    from model.network.threads import limit_threads

    limit_threads()
    refused: tuple[type[Exception], ...] = (ValueError, FileNotFoundError, *refusals)
    try:
        if device is not None:
            _check_device(device)
        yield
    except refused as error:
        raise BadInputError(str(error)) from error


def _check_device(name: str) -> None:
    import torch

    try:
        device = torch.device(name)
    except RuntimeError:
        raise BadInputError(
            f"--device is {name!r}; expected a torch device such as cpu or cuda:0"
        ) from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise BadInputError(
            f"--device is {name!r}, but this machine has no usable CUDA device; use cpu"
        )


def print_result(result: dict[str, Any], as_json: bool) -> None:
    """One value a line, or all of them as one line of JSON."""
    if as_json:
        print(json.dumps(result))
        return
    width = max(map(len, result))
    for key, value in result.items():
        print(f"{key:{width}}  {value:,}" if isinstance(value, int) else f"{key:{width}}  {value}")
