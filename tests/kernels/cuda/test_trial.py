from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from kernels.cuda.library import GemmArguments, KernelLibrary, PrologueArguments
from kernels.cuda.products import PRODUCTS
from kernels.cuda.tiles import TILES
from kernels.cuda.trial import HEADS, PROLOGUES, is_right, parts_of, tile_part


class _LibraryWithErrors(KernelLibrary):
    """Real kernels, of which one tile takes the output to be one channel narrower than it is, and
    the prologue leaves GELU out."""

    def __init__(self, path: Path, tile: int) -> None:
        super().__init__(path)
        self.tile = tile

    def gemm(self, arguments: GemmArguments) -> None:
        if arguments.tile == self.tile:
            arguments.n -= 1
        super().gemm(arguments)

    def prologue(self, arguments: PrologueArguments) -> None:
        arguments.gelu = 0
        super().prologue(arguments)


hopper = pytest.mark.parametrize("machine", ["sm_90a falling"], indirect=True)


@hopper
@pytest.mark.parametrize(
    "part", [PROLOGUES, HEADS, *(tile_part(tile.index) for tile in TILES), *PRODUCTS]
)
def test_every_part_passes_the_trial(machine: Any, part: str) -> None:
    assert part in parts_of(machine.backend)
    assert is_right(machine.backend, machine.device, part)


@hopper
def test_what_computes_something_else_is_found(
    machine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = _LibraryWithErrors(Path(machine.backend.library.handle._name), tile=2)
    monkeypatch.setitem(PRODUCTS, "e4m3 of torch", _in_bfloat16)
    backend = dataclasses.replace(machine.backend, library=library, tiles=TILES[1:3])
    found = {part: is_right(backend, machine.device, part) for part in parts_of(backend)}
    assert found == {
        PROLOGUES: False,
        HEADS: True,
        "tile 1": True,
        "tile 2": False,
        "int8 of torch": True,
        "e4m3 of torch": False,
    }


def _in_bfloat16(codes: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """A product whose sums keep 8 significant bits."""
    return (codes.bfloat16() @ weight.bfloat16().T).float()
