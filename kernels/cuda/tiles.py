"""Which tile of the output a block of the integer product computes.

`python -m kernels.cuda tiles` prints the choice for the layers of VGGT-1B.
A larger tile moves fewer bytes per product; a smaller one wastes less of its edge and fills more multiprocessors when
there are few tokens. The choice takes the smallest estimate of

    rounds of the multiprocessors over the tiles x area of a tile / its relative speed

where the speeds stand for the shared-memory traffic of a tile's warps. They are estimates until timed on a GPU.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Tile:
    """`index` is its place in `gemm.cu`; `tokens` x `channels` outputs; `speed` relative to the largest."""

    index: int
    tokens: int
    channels: int
    speed: float

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
)


def choose_tile(tokens: int, channels: int, multiprocessors: int) -> Tile:
    """The tile of least estimated cost for an output of `tokens` x `channels`; of equal ones the largest."""
    return min(reversed(TILES), key=lambda tile: tile.cost(tokens, channels, multiprocessors))
