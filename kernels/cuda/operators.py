"""Registers the CUDA kernels with torch: every operator on a GPU asks here which backend its device
has."""

from __future__ import annotations

import logging
import threading
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch

from kernels import ops, reference
from kernels.cuda.backend import CudaBackend, fits
from kernels.cuda.build import BuildError, build
from kernels.cuda.library import KernelError, KernelLibrary
from kernels.cuda.products import products_of
from kernels.cuda.targets import TARGETS
from kernels.cuda.tiles import tiles_of
from kernels.cuda.trial import HEADS, PROLOGUES, parts_of, tile_part
from kernels.cuda.verdict import OK, TIME_LIMIT, judge
from kernels.fastest import fastest_on
from kernels.machine import describe
from kernels.path import BACKENDS, REFERENCE, KernelPath

NATIVE = ("quantize_rows", "integer_matmul", "linear", "qk_norm_rope")

_logger = logging.getLogger(__name__)
_lock = threading.Lock()


def _current_stream(device: torch.device) -> int:
    stream: int = torch.cuda.current_stream(device).cuda_stream
    return stream


@cache
def _load(path: Path) -> KernelLibrary:
    return KernelLibrary(path)


@cache
def _find_backend(index: int) -> CudaBackend | KernelPath:
    if torch.cuda.is_current_stream_capturing():
        raise KernelError(
            f"the kernels of GPU {index} are used for the first time while a graph is captured; "
            f"ask kernels.kernel_path('cuda:{index}') before, as model.files.artifact.load does"
        )
    properties = torch.cuda.get_device_properties(index)
    capability = (properties.major, properties.minor)
    target = TARGETS.get(capability)
    if target is None:
        known = ", ".join(f"{major}.{minor}" for major, minor in TARGETS)
        own = f"{capability[0]}.{capability[1]}"
        reason = f"there are no kernels for compute capability {own}, only for {known}"
        return KernelPath(REFERENCE, reason)
    try:
        path = build(target)
        library = _load(path)
    except (BuildError, KernelError, OSError) as error:
        return KernelPath(REFERENCE, f"the kernels for {target.architecture} are missing: {error}")
    backend = CudaBackend(
        library,
        target,
        properties.multi_processor_count,
        _current_stream,
        tiles_of(target),
        products=products_of(capability),
    )
    device = torch.device("cuda", index)
    verdict = judge(
        path, target.architecture, str(device), parts_of(backend), describe(device), TIME_LIMIT
    )
    times = fastest_on(device, path.name)
    return _admitted(replace(backend, times=times), verdict, f"GPU {index}")


def _admitted(backend: CudaBackend, verdict: dict[str, str], name: str) -> CudaBackend | KernelPath:
    """What of `backend` passed its trial; logs the rest."""
    failed = {part: end for part, end in verdict.items() if end != OK}
    if failed:
        ends = ", ".join(f"{part} ({end})" for part, end in failed.items())
        _logger.warning("%s: left out after their trial: %s", name, ends)
    tiles = tuple(tile for tile in backend.tiles if verdict.get(tile_part(tile.index)) == OK)
    if not tiles or verdict.get(PROLOGUES) != OK:
        reason = f"the kernels for {backend.target.architecture} did not pass their trial"
        return KernelPath(REFERENCE, f"{reason}: {ends}")
    products = tuple(name for name in backend.products if verdict.get(name) == OK)
    turns_heads = verdict.get(HEADS) == OK
    return replace(backend, tiles=tiles, products=products, turns_heads=turns_heads)


def find_backend(device: torch.device) -> CudaBackend | KernelPath:
    """The backend of a GPU, or the path in plain torch with the reason why there is none; asked
    once per GPU.

    The first answer takes building and a trial, which no graph can capture: raises KernelError if
    one is captured then.
    """
    index = torch.cuda.current_device() if device.index is None else device.index
    with _lock:
        unseen = _find_backend.cache_info().misses
        backend = _find_backend(index)
        if isinstance(backend, KernelPath) and _find_backend.cache_info().misses > unseen:
            _logger.warning("GPU %d computes in plain torch: %s", index, backend.reason)
    return backend


def _path(device: torch.device) -> KernelPath:
    if not torch.cuda.is_available():
        return KernelPath(REFERENCE, "torch sees no GPU")
    backend = find_backend(device)
    if isinstance(backend, KernelPath):
        return backend
    operators = frozenset(NATIVE) if backend.turns_heads else frozenset(NATIVE) - {"qk_norm_rope"}
    name = f"cuda {backend.target.architecture}"
    return KernelPath(name, operators=operators, fits=fits, times=backend.times)


def _register(library: torch.library.Library, name: str) -> None:
    definition = getattr(reference, name)

    def run(first: torch.Tensor, *rest: Any) -> Any:
        backend = find_backend(first.device)
        if isinstance(backend, KernelPath):
            return definition(first, *rest)
        with torch.cuda.device(first.device):
            return getattr(backend, name)(first, *rest)

    library.impl(name, run, "CUDA")


_LIBRARY = torch.library.Library(ops.LIBRARY.ns, "IMPL")
for _name in NATIVE:
    _register(_LIBRARY, _name)
BACKENDS["cuda"] = _path
