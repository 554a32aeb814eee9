"""wgmma: products of a warpgroup, which go on while its warps do other work.

PTX ISA, "Asynchronous Warpgroup Level Matrix Instructions". A register of a product may not be
touched until the product is waited for, and what was written to one before needs a `wgmma.fence`;
products that add to the same accumulators follow each other without one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from tests.kernels.cuda.ptx import products
from tests.kernels.cuda.ptx.fault import Fault
from tests.kernels.cuda.ptx.program import Instruction, Kernel, split_list
from tests.kernels.cuda.ptx.registers import Registers
from tests.kernels.cuda.ptx.shared import WARP, SharedMemory

if TYPE_CHECKING:
    from tests.kernels.cuda.ptx.block import Lanes

_WARPS = products.WARPGROUP // WARP
_STORES = ("st", "bra", "ret", "exit", "bar", "cp", "fence", "trap")  # write no register
_SHAPE = "m64n128k32"


class Warpgroups:
    """The products under way and the registers that they hold, by warp; idle in a kernel without
    wgmma."""

    def __init__(self, kernel: Kernel, registers: Registers, shared: SharedMemory) -> None:
        self._registers, self._shared = registers, shared
        self._used = any(i.parts[0] == "wgmma" for i in kernel.instructions)
        self._numbers: dict[str, int] = {}
        self._written = [self._touched(i, written=True) for i in kernel.instructions]
        self._all = [self._touched(i, written=False) for i in kernel.instructions]
        self.reset()

    def reset(self) -> None:
        """As at the start of a block."""
        warps = -(-self._registers.threads // WARP)
        self._clock = 0
        self._last_write = np.zeros((warps, len(self._numbers) + 1), np.int64)
        self._fence = np.full(warps, -1, np.int64)
        self._busy = np.zeros((warps, len(self._numbers) + 1), bool)
        self._uncommitted = np.zeros(warps, bool)
        self._running: dict[int, list[np.ndarray]] = {}

    def _touched(self, instruction: Instruction, *, written: bool) -> np.ndarray:
        if not self._used or instruction.parts[0] == "wgmma":
            return np.empty(0, np.int64)
        operands = instruction.operands
        if written:
            operands = () if instruction.parts[0] in _STORES else operands[:1]
        names = re.findall(r"%\w+", " ".join(operands))
        return np.array([self._number(name) for name in names], np.int64)

    def _number(self, name: str) -> int:
        return self._numbers.setdefault(name, len(self._numbers))

    def touch(self, at: int, warps: np.ndarray) -> None:
        """`warps` run instruction `at`. Raises Fault if a running product holds one of its
        registers."""
        if not self._used:
            return
        self._clock += 1
        if self._running and self._busy[warps[:, None], self._all[at]].any():
            raise Fault("a register of a running wgmma is touched")
        self._last_write[warps[:, None], self._written[at]] = self._clock

    def compiled(self, instruction: Instruction) -> Callable[[Lanes], None]:
        """The function that runs a wgmma instruction."""
        kind = instruction.parts[1]
        if kind == "fence":
            return self._order
        if kind == "commit_group":
            return self._commit
        if kind == "wait_group":
            if instruction.operands != ("0",):
                raise Fault("the interpreter knows wgmma.wait_group 0 only")
            return self._wait
        return self._product(instruction)

    def _order(self, lanes: Lanes) -> None:
        self._fence[lanes.whole_warps("wgmma.fence")] = self._clock

    def _commit(self, lanes: Lanes) -> None:
        self._uncommitted[lanes.whole_warps("wgmma.commit_group")] = False

    def _wait(self, lanes: Lanes) -> None:
        if self._uncommitted[lanes.warps].any():
            raise Fault("wgmma.wait_group: there are products that were not committed")
        for warp in lanes.whole_warps("wgmma.wait_group").tolist():
            for granules in self._running.pop(warp, []):
                self._shared.finish_product(granules)
            self._busy[warp] = False

    def _product(self, instruction: Instruction) -> Callable[[Lanes], None]:
        if _SHAPE not in instruction.parts or instruction.operands[3] != "1":
            raise Fault(f"the interpreter knows wgmma of {_SHAPE} with scale-d 1 only")
        names = [split_list(operand) for operand in instruction.operands[:2]]
        accumulators = [self._registers.target(name, "s32") for name in names[0]]
        left = [self._registers.source(name, "b32") for name in names[1]]
        descriptor = self._registers.source(instruction.operands[2], "u64")
        numbers = np.array([self._number(name) for name in (*names[0], *names[1])], np.int64)

        def run(lanes: Lanes) -> None:
            warps = lanes.whole_warps("wgmma")
            groups = np.unique(warps // _WARPS)
            if len(groups) * _WARPS != len(warps):
                raise Fault("wgmma: not all warps of a warpgroup are there")
            if (self._last_write[warps[:, None], numbers] > self._fence[warps][:, None]).any():
                raise Fault(
                    "wgmma: a register was written after the last wgmma.fence, or there is none"
                )
            for group in groups.tolist():
                self._run_group(group, accumulators, left, descriptor)
            self._busy[warps[:, None], numbers] = True
            self._uncommitted[warps] = True

        return run

    def _run_group(
        self,
        group: int,
        accumulators: list[np.ndarray],
        left: list[np.ndarray],
        descriptor: np.ndarray,
    ) -> None:
        threads = slice(group * products.WARPGROUP, (group + 1) * products.WARPGROUP)
        described = np.unique(descriptor[threads])
        if len(described) != 1:
            raise Fault("wgmma: the descriptor differs within the warpgroup")
        chunks = products.described_rows(int(described[0]), 2 * len(accumulators))
        data, granules = self._shared.read_by_product(chunks.reshape(-1), 16)
        right = data.reshape(len(chunks), 32).view(np.int8)
        words = np.stack([word[threads] for word in left])
        for accumulator, total in zip(
            accumulators, products.multiplied_by_warpgroup(words, right), strict=True
        ):
            exact = accumulator[threads] + total
            if (np.abs(exact) >= 2.0**31).any():
                raise Fault("an accumulator overflows")
            accumulator[threads] = exact.astype(np.int32)
        for warp in range(group * _WARPS, (group + 1) * _WARPS):
            self._shared.start_product(granules)
            self._running.setdefault(warp, []).append(granules)
