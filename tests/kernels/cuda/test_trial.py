from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from kernels.cuda.library import GemmArguments, KernelLibrary
from kernels.cuda.tiles import TILES
from kernels.cuda.trial import wrong_tiles


class _LibraryThatForgetsAChannel(KernelLibrary):
    """Real kernels, of which one tile takes the output to be one channel narrower than it is."""

    def __init__(self, path: Path, tile: int) -> None:
        super().__init__(path)
        self.tile = tile

    def gemm(self, arguments: GemmArguments) -> None:
        if arguments.tile == self.tile:
            arguments.n -= 1
        super().gemm(arguments)


hopper = pytest.mark.parametrize("machine", ["sm_90a falling"], indirect=True)


@hopper
def test_every_tile_passes_the_trial(machine: Any) -> None:
    assert wrong_tiles(machine.backend, machine.device) == ()


@hopper
def test_a_tile_that_computes_something_else_is_found(machine: Any) -> None:
    library = _LibraryThatForgetsAChannel(Path(machine.backend.library.handle._name), tile=2)
    backend = dataclasses.replace(machine.backend, library=library, tiles=TILES[1:3])
    assert wrong_tiles(backend, machine.device) == (TILES[2],)
