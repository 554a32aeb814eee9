"""What the CUDA kernels cost by counting: their PTX, run in an interpreter on a CPU.

    python -m benchmarks.cuda_counts                           # Hopper's kernels, on VGGT-1B
    python -m benchmarks.cuda_counts --architecture sm_80      # without the model

nvcc is needed, a GPU is not. Prologue and heads: instructions of a thread for an element, or of a
warp for one head of a token; divisions among them, each of which becomes some twelve machine
instructions; how many times the least possible sectors of global memory and passes over the banks
of shared memory there are. Product: instructions of warps for a tile of the output, in the loop
over 1024 of depth and around it. Beside VGGT-1B's prologues stands that of Depth Anything 3's Giant
behind SwiGLU.

Then, for sm_90a, a model of one pass on an H200, by no measurement: every kernel takes the longest
of issuing its instructions, its matrix units and its memory. Its assumptions are the constants
below. At last what plain torch costs where a pass looks at 1 of 4 patches, queries and keys apart.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections import Counter
from collections.abc import Callable
from functools import cache
from itertools import repeat
from operator import itemgetter
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from kernels import reference
from kernels.cuda.backend import CudaBackend
from kernels.cuda.build import find_compiler
from kernels.cuda.products import PRODUCTS
from kernels.cuda.tiles import Tile
from model.network.keys import kept_tokens
from tests.kernels.cuda.conftest import compile_emulation
from tests.kernels.cuda.ptx.counts import Counts
from tests.kernels.cuda.ptx.library import InterpretedLibrary, interpreted_backend

TOKENS_PER_FRAME = 1374  # of 518 x 518 pixels: 37 x 37 patches and 5 special tokens
BLOCKS = 72  # of the image encoder and the aggregator
BLOCKS_WITH_ROPE = 48  # those of the aggregator
GLOBAL_BLOCKS, SPECIAL_TOKENS, FRAMES_APART = 24, 5, 96
HEADS = 16
LAYERS = {"qkv": (1024, 3072), "proj": (1024, 1024), "fc1": (1024, 4096), "fc2": (4096, 1024)}
SURROUNDED = ("proj", "fc2")  # those with LayerScale and residual; the others have a bias only


@dataclasses.dataclass(frozen=True)
class Tokens:
    """What a layer is given, and what is done to it before its rotation."""

    width: int
    dtype: torch.dtype = torch.bfloat16
    norm: bool = False
    gelu: bool = False
    gated: bool = False


GATED, APART = "w3 of Giant", "w3, gated before"
GATED_BLOCKS = 40  # of Depth Anything 3's Giant
PROLOGUES = {
    "qkv": Tokens(1024, norm=True),
    "proj": Tokens(1024),
    "fc1": Tokens(1024, torch.float32, norm=True),
    "fc2": Tokens(4096, gelu=True),
    GATED: Tokens(4096, gated=True),
    APART: Tokens(4096, torch.float32),
}

# an H200 (NVIDIA H100 Tensor Core GPU Architecture, data sheet of the H200)
MULTIPROCESSORS = 132
ISSUE = 4 * MULTIPROCESSORS * 1.755e9  # warp instructions a second: 4 a cycle
BYTES_PER_SECOND = 4.8e12
INT8_OPERATIONS = 1.979e15
BF16_OPERATIONS = 0.989e15
REACHED = 0.7  # of the matrix units' peak, by a good product: bfloat16's share in cuBLAS
MACHINE_DIVISION = 12  # instructions that one IEEE division becomes


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--architecture", default="sm_90a")
    parser.add_argument("--frames", type=int, nargs="+", default=[1, 10, 32])
    args = parser.parse_args()
    if find_compiler() is None:
        print("nvcc was not found; install the CUDA toolkit or set CUDA_HOME", file=sys.stderr)
        return 2
    backend = interpreted_backend(
        compile_emulation("-O3", "-march=native"), args.architecture, most_blocks=1
    )
    prologues = {name: count_prologue(backend, case) for name, case in PROLOGUES.items()}
    heads = count_heads(backend)
    print("instructions of which      divisions   sectors   bank passes")
    for name, cost in {**prologues, "queries and keys": heads}.items():
        print(f"{name:18} {cost.instructions:7.1f}  {cost.divisions:9.2f}  {cost.sectors:8.2f}"
              f"  {cost.passes:12.2f}")  # fmt: skip
    tiles = {tile: count_product(backend, tile) for tile in backend.tiles}
    print("\nwarp instructions of a tile     loop over 1024   around it")
    for tile, (loop, around) in tiles.items():
        print(f"{tile!s:28}  {loop:16,}  {around:10,}")
    if not any(tile.warpgroup for tile in tiles):
        return 0
    print(f"\nmodel of an H200 [ms], linear layers of {BLOCKS} blocks")
    print("frames  prologue   product      W4A4  bfloat16     heads  tiles")
    for frames in args.frames:
        before = 1e3 * BLOCKS * sum(map(prologue_time, LAYERS, repeat(frames), repeat(prologues)))
        chosen = [best_tile(name, frames, tiles) for name in LAYERS]
        products = 1e3 * BLOCKS * sum(seconds for seconds, _ in chosen)
        plain = 1e3 * BLOCKS * sum(bfloat16_time(name, frames) for name in LAYERS)
        turned = heads.instructions * 2 * HEADS * frames * TOKENS_PER_FRAME * BLOCKS_WITH_ROPE
        figures = (before, products, before + products, plain, 1e3 * turned / ISSUE)
        row = "  ".join(f"{figure:8.1f}" for figure in figures)
        print(f"{frames:6}  {row}  {' '.join(str(tile.index) for _, tile in chosen)}")
    print_products_of_torch(args.frames, count_epilogue(backend))
    print_gate(prologues)
    print_apart()
    return 0


@dataclasses.dataclass(frozen=True)
class Cost:
    """Of one element, or of one head of a token: instructions, divisions among them, and how many
    times the least possible sectors and passes there are."""

    instructions: float
    divisions: float
    names: float  # instructions that the machine does not run: other names of values, parameters
    sectors: float
    passes: float


def cost_of(counts: Counts, share: float) -> Cost:
    def factor(*spaces: str) -> float:
        chosen = [r for kind, r in counts.requests.items() if any(s in kind for s in spaces)]
        return sum(r.actual for r in chosen) / max(1, sum(r.least for r in chosen))

    return Cost(
        counts.total * share,
        counts.of("div") * share,
        counts.of("mov", "cvta", "ld.param") * share,
        factor("global"),
        factor("shared"),
    )


def counted(backend: CudaBackend, run: Callable[[CudaBackend], Any]) -> list[Counts]:
    """What one block of every launch costs."""
    assert isinstance(backend.library, InterpretedLibrary)
    backend.library.launches.clear()
    run(backend)
    return list(backend.library.launches)


def count_prologue(backend: CudaBackend, tokens: Tokens) -> Cost:
    """Of a rotated row, by the element."""
    width = tokens.width
    rows = max(1, 128 * 16 // width)
    parameters = [torch.rand(width) if tokens.norm else None for _ in range(2)]
    signs = torch.ones(width, dtype=torch.int8)
    weight = torch.zeros(8, width // 2, dtype=torch.uint8)
    arguments = (weight, torch.ones(8), None, 4, 4, *parameters, 1e-5, tokens.gelu, signs)
    x = torch.randn(rows, width * (1 + tokens.gated)).to(tokens.dtype)
    found = counted(backend, lambda backend: backend.linear(x, *arguments, *[None] * 4))
    return cost_of(found[0], 32 / (rows * width))


def count_heads(backend: CudaBackend) -> Cost:
    """Of the queries and keys of a token, normalised and turned, by the head."""
    tokens = 4
    qkv = torch.randn(1, tokens, 3, HEADS, 64).bfloat16()
    norm, table = torch.rand(64), torch.rand(tokens, 64)
    arguments = (qkv, norm, norm, norm, norm, 1e-5, table, table)
    found = counted(backend, lambda backend: backend.qk_norm_rope(*arguments))
    return cost_of(found[0], 1 / (2 * tokens * HEADS))


def count_product(backend: CudaBackend, tile: Tile) -> tuple[int, int]:
    """Instructions of the loop over 1024 of depth, and of what stands around it, for one tile of a
    bfloat16 output with bias, layer scale and residual."""
    backend = dataclasses.replace(backend, tiles=(tile,))
    vector = torch.ones(tile.channels)
    residual = torch.zeros(tile.tokens, tile.channels).bfloat16()
    totals = []
    for depth in (1024, 2048):
        x = torch.randn(tile.tokens, depth).bfloat16()
        weight = torch.zeros(tile.channels, depth // 2, dtype=torch.uint8)
        before = (None, None, 1e-5, False, None, None, None)
        arguments = (x, weight, vector, vector, 4, 4, *before, vector, residual)
        found = counted(backend, lambda backend, given=arguments: backend.linear(*given))
        totals.append(found[1].total)
    return totals[1] - totals[0], 2 * totals[0] - totals[1]


def count_epilogue(backend: CudaBackend) -> Cost:
    """Behind a product of torch, of a bfloat16 output with all that may stand there, by the
    element."""
    tokens, channels = 64, 128
    vector, residual = torch.ones(channels), torch.zeros(tokens, channels).bfloat16()
    sums = torch.zeros(tokens, channels, dtype=torch.int32)
    surroundings = (vector, vector, vector, residual)
    (found,) = counted(
        backend,
        lambda backend: backend.finish(sums, torch.ones(tokens, 1), surroundings, torch.bfloat16),
    )
    return cost_of(found, 32 / sums.numel())


def print_products_of_torch(frames: list[int], epilogue: Cost) -> None:
    """What torch's products take with all that follows them, in operations apart and in one."""
    print(
        f"\nepilogue behind a product of torch: {epilogue.instructions:.1f} instructions, "
        f"{epilogue.sectors:.2f} times the least sectors"
    )
    print(f"model of an H200 [ms], products of torch in {BLOCKS} blocks")
    print("frames  product        multiplied  widening  epilogue apart  in one pass")
    for count in frames:
        for product in PRODUCTS:
            costs = [torch_times(product, name, count, epilogue) for name in LAYERS]
            figures = [1e3 * BLOCKS * sum(column) for column in zip(*costs, strict=True)]
            print(
                "{:6}  {}  {:10.1f}  {:8.1f}  {:14.1f}  {:11.1f}".format(count, product, *figures)
            )


def torch_times(product: str, name: str, frames: int, epilogue: Cost) -> tuple[float, ...]:
    """Seconds of a layer: its product, what torch does for it before, its epilogue in operations of
    torch, and in one of ours."""
    depth, channels = LAYERS[name]
    rows = frames * TOKENS_PER_FRAME
    surrounded = name in SURROUNDED
    multiply, widen = product_bytes(product, depth, channels, rows)
    multiplied = 2 * rows * depth * channels / (INT8_OPERATIONS * REACHED)
    elements = rows * channels
    plain = epilogue_bytes(surrounded) * elements / BYTES_PER_SECOND
    least = (4 + 2 * (1 + surrounded)) * elements / BYTES_PER_SECOND
    machine = epilogue.instructions + epilogue.divisions * (MACHINE_DIVISION - 1) - epilogue.names
    return (
        max(multiplied, multiply / BYTES_PER_SECOND),
        widen / BYTES_PER_SECOND,
        plain,
        max(machine * elements / 32 / ISSUE, least),
    )


@cache
def product_bytes(product: str, depth: int, channels: int, rows: int) -> tuple[float, float]:
    """Bytes that a product of torch moves, and those that its operands' conversions do."""
    weight = torch.zeros(channels, depth // 2, dtype=torch.uint8)
    moved = []
    for few in (32, 64):
        codes = torch.zeros(few, depth, dtype=torch.int8)
        with _Traffic() as traffic:
            PRODUCTS[product](codes, reference.weight_codes(weight))
        multiply = sum(traffic.moved[name] for name in ("aten::_int_mm", "aten::_scaled_mm"))
        moved.append((multiply, traffic.bytes - multiply))
    slopes = [(more - less) / 32 for less, more in zip(*moved, strict=True)]
    own, widened = (
        less + slope * (rows - 32) for less, slope in zip(moved[0], slopes, strict=True)
    )
    return own, widened


@cache
def epilogue_bytes(surrounded: bool) -> float:
    """Those that the definition in plain torch moves for an element of a bfloat16 output."""
    sums = torch.zeros(512, 128, dtype=torch.int32)
    vector = torch.ones(128)
    residual = torch.zeros(512, 128).bfloat16() if surrounded else None
    with _Traffic() as traffic:
        y = reference.scale_accumulators(sums, torch.ones(512, 1), vector, vector)
        reference.surround(y, vector if surrounded else None, residual, torch.bfloat16)
    return traffic.bytes / sums.numel()


def print_gate(prologues: dict[str, Cost]) -> None:
    """Of the gate in front of Giant's w3: in the prologue, and in plain torch in front of it."""
    width = PROLOGUES[GATED].width
    x = torch.randn(4, 2 * width).bfloat16()
    with _Traffic() as traffic:
        reference.gated(x)
    each = traffic.bytes / (len(x) * width)
    elements = 10 * TOKENS_PER_FRAME * width * GATED_BLOCKS
    before, now = (
        1e3 * GATED_BLOCKS * prologue_time(name, 10, prologues) for name in (APART, GATED)
    )
    apart = 1e3 * elements * each / BYTES_PER_SECOND
    print(f"\nSwiGLU before w3 of {GATED_BLOCKS} blocks of Giant, 10 frames")
    print(
        f"plain torch: {each:.0f} bytes an element, {apart:.1f} ms, and {before:.1f} ms of prologue"
    )
    print(f"in the prologue: {now:.1f} ms")


def print_apart() -> None:
    """Of a long pass with fewer keys, whose queries and keys are placed apart, in plain torch."""
    tokens = FRAMES_APART * TOKENS_PER_FRAME
    kept = len(kept_tokens(4, FRAMES_APART, 37, 37, SPECIAL_TOKENS))
    moved = plain_bytes()
    elements = (tokens + kept) * HEADS * 64 * GLOBAL_BLOCKS
    attention = 4 * tokens * kept * HEADS * 64 * GLOBAL_BLOCKS / (BF16_OPERATIONS * REACHED)
    print(
        f"\n{FRAMES_APART} frames, keys 1 of 4, queries and keys of {GLOBAL_BLOCKS} global blocks"
    )
    for name, each in (("plain torch", moved), ("one kernel", 2 * torch.bfloat16.itemsize)):
        seconds = elements * each / BYTES_PER_SECOND
        print(f"{name}: {each:.0f} bytes an element, {1e3 * seconds:.1f} ms")
    print(f"attention itself: {1e3 * attention:.0f} ms")


class _Traffic(TorchDispatchMode):
    """Bytes of arguments and results of every operation that is more than another view."""

    def __init__(self) -> None:
        super().__init__()
        self.moved: Counter[str] = Counter()  # by operation

    @property
    def bytes(self) -> int:
        return self.moved.total()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        given, made = (
            [each for each in tree_leaves(tensors) if isinstance(each, torch.Tensor)]
            for tensors in (args, found)
        )
        stores = {each.untyped_storage().data_ptr() for each in given}
        if any(each.untyped_storage().data_ptr() not in stores for each in made):
            self.moved[func._schema.name] += sum(each.nbytes for each in (*given, *made))
        return found


def plain_bytes() -> float:
    """Bytes that plain torch moves for an element of bfloat16 queries."""
    x = torch.randn(1, 4 * TOKENS_PER_FRAME, HEADS, 64).bfloat16()
    norm, table = torch.rand(64), torch.rand(TOKENS_PER_FRAME, 64)
    with _Traffic() as traffic:
        reference.norm_rope(x, norm, norm, 1e-5, table, table)
    return traffic.bytes / x.numel()


def prologue_time(name: str, frames: int, prologues: dict[str, Cost]) -> float:
    """Seconds of a layer's prologue."""
    cost, tokens = prologues[name], PROLOGUES[name]
    elements = frames * TOKENS_PER_FRAME * tokens.width
    machine = cost.instructions + cost.divisions * (MACHINE_DIVISION - 1) - cost.names
    moved = tokens.dtype.itemsize * (1 + tokens.gated) + 1
    return max(machine * elements / 32 / ISSUE, moved * elements / BYTES_PER_SECOND)


def best_tile(name: str, frames: int, tiles: dict[Tile, tuple[int, int]]) -> tuple[float, Tile]:
    """Seconds of a layer's product and what stands around it, by the tile that takes fewest."""
    depth, channels = LAYERS[name]
    tokens = frames * TOKENS_PER_FRAME

    def seconds(tile: Tile) -> float:
        operations = 2 * tile.tokens * tile.channels * depth * MULTIPROCESSORS
        multiplied = operations / (INT8_OPERATIONS * REACHED)
        loop, around = (count * MULTIPROCESSORS / ISSUE for count in tiles[tile])
        rounds = -(-tile.blocks(tokens, channels) // MULTIPROCESSORS)
        if tile.resident > 1:  # another block multiplies meanwhile, but not at the end
            return rounds * max(multiplied, loop * depth / 1024 + around) + around
        return rounds * (max(multiplied, loop * depth / 1024) + around)

    return min(((seconds(tile), tile) for tile in tiles if tile.warpgroup), key=itemgetter(0))


def bfloat16_time(name: str, frames: int) -> float:
    """Seconds of the same product in bfloat16, without LayerNorm and GELU."""
    depth, channels = LAYERS[name]
    return 2 * frames * TOKENS_PER_FRAME * depth * channels / (BF16_OPERATIONS * REACHED)


if __name__ == "__main__":
    sys.exit(main())
