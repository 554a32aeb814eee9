"""Which tile of the output a block of the integer product computes.

`python -m kernels.cuda tiles` prints the choice for the layers of VGGT-1B. A larger tile moves
fewer bytes per product; a smaller one wastes less of its edge and fills more multiprocessors when
there are few tokens. The choice takes the smallest estimate of

    rounds of the multiprocessors over the tiles x area of a tile / its relative speed

where the speeds stand for the shared-memory traffic of a tile's warps and for the share of the
matrix units' peak that their instructions reach. They are estimates until timed on a GPU.
"""

from __future__ import annotations

from dataclasses import dataclass

from kernels.cuda.targets import Target


@dataclass(frozen=True)
class Tile:
    """`tokens` x `channels` outputs; `index` is how the library knows it; `speed` is relative."""

    index: int
    tokens: int
    channels: int
    speed: float
    warpgroup: bool = False  # for targets with warpgroup instructions only
    resident: int = 1  # blocks that share a multiprocessor, of a warpgroup's tile

    def __str__(self) -> str:
        return f"{self.tokens} x {self.channels}{' by warpgroups' if self.warpgroup else ''}"

    def blocks(self, tokens: int, channels: int) -> int:
        """How many of these tiles cover an output of `tokens` x `channels`."""
        return -(-tokens // self.tokens) * -(-channels // self.channels)

    def cost(self, tokens: int, channels: int, multiprocessors: int) -> float:
        """Estimated time, in outputs of the largest tile per multiprocessor."""
        rounds = -(-self.blocks(tokens, channels) // multiprocessors)
        return rounds * self.tokens * self.channels / self.speed


TILES = (
    Tile(0, 16, 64, speed=0.25),
    Tile(1, 64, 64, speed=0.5),
    Tile(2, 128, 128, speed=0.85),
    Tile(3, 128, 256, speed=1.0),
    Tile(4, 128, 128, speed=1.6, warpgroup=True, resident=2),
    Tile(5, 256, 128, speed=1.6, warpgroup=True),
)


def tiles_of(target: Target) -> tuple[Tile, ...]:
    """The tiles that have kernels on `target`."""
    return tuple(tile for tile in TILES if target.warpgroup or not tile.warpgroup)


def choose_tile(tokens: int, channels: int, multiprocessors: int, tiles: tuple[Tile, ...]) -> Tile:
    """Of `tiles` the one of least estimated cost for an output of `tokens` x `channels`; of equal
    ones the last."""
    return min(reversed(tiles), key=lambda tile: tile.cost(tokens, channels, multiprocessors))
