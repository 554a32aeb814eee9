"""Runs a kernel's blocks, one after another, all threads of a block at a time.

Threads that stand at the same instruction run it together; of several places the first in the
program goes first, which brings diverged threads together again where their paths meet. Every
instruction is made into a function on arrays once per launch.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tests.kernels.cuda.ptx import products
from tests.kernels.cuda.ptx.arithmetic import arithmetic
from tests.kernels.cuda.ptx.counts import Counts
from tests.kernels.cuda.ptx.fault import Fault
from tests.kernels.cuda.ptx.memory import GlobalMemory
from tests.kernels.cuda.ptx.program import Instruction, Kernel, split_address, split_list
from tests.kernels.cuda.ptx.registers import TYPES, Registers, size_of
from tests.kernels.cuda.ptx.shared import WARP, SharedMemory
from tests.kernels.cuda.ptx.warpgroups import Warpgroups

_SHARED_BASE = 1024  # the alignment that the kernels ask for
_NOWHERE = 1 << 30


class Lanes:
    """The threads that run an instruction together, in rising order; `chosen` picks them from an
    array of all."""

    def __init__(self, threads: np.ndarray, total: int) -> None:
        self.threads = threads
        self.chosen: slice | np.ndarray = slice(None) if len(threads) == total else threads
        self.warps = np.flatnonzero(np.bincount(threads // WARP))

    def whole_warps(self, by: str) -> np.ndarray:
        """The warps, if every one of them is complete; else raises Fault."""
        if len(self.threads) != WARP * len(self.warps):
            raise Fault(f"{by}: not all lanes of a warp are there")
        return self.warps


Run = Callable[[Lanes], None]


class Launch:
    """A kernel with its arguments; `arguments` are the bytes of its one parameter."""

    def __init__(
        self,
        kernel: Kernel,
        memory: GlobalMemory,
        arguments: bytes,
        threads: int,
        shared_bytes: int,
        counts: Counts | None = None,
    ) -> None:
        self._kernel, self._memory, self._arguments = kernel, memory, arguments
        self._threads, self._counts = threads, counts
        self._registers = Registers(kernel, threads, _SHARED_BASE)
        granule = min(map(_shared_bytes_of, kernel.instructions))
        self._shared = SharedMemory(shared_bytes, _SHARED_BASE, threads, min(granule, 16))
        self._warpgroups = Warpgroups(kernel, self._registers, self._shared)
        self._executed = np.zeros(len(kernel.instructions), np.int64)
        self._run = [self._compiled(instruction) for instruction in kernel.instructions]
        self._guards = [self._guard(instruction) for instruction in kernel.instructions]

    def run(self, block: int) -> None:
        """Runs one block to its end. Raises Fault."""
        self._registers.block[:] = block
        self._shared.reset()
        self._warpgroups.reset()
        place = np.zeros(self._threads, np.int64)
        waiting, done = np.zeros((2, self._threads), bool)
        while not done.all():
            ready = np.flatnonzero(~(done | waiting))
            if not ready.size:
                waiting[:] = False
                self._shared.barrier()
                continue
            at = place[ready]
            first = int(at.min())
            together = ready[at == first]
            others = at[at != first]
            limit = int(others.min()) if others.size else _NOWHERE
            self._advance(Lanes(together, self._threads), first, limit, place, waiting, done)
        self._shared.check_finished()

    def finish(self) -> None:
        """Adds what was run to the counts."""
        if self._counts is not None:
            for instruction, times in zip(self._kernel.instructions, self._executed, strict=True):
                self._counts.instructions[instruction.opcode] += int(times)
        self._executed[:] = 0

    def _advance(
        self,
        lanes: Lanes,
        at: int,
        limit: int,
        place: np.ndarray,
        waiting: np.ndarray,
        done: np.ndarray,
    ) -> None:
        """Runs `lanes` from instruction `at` on, until they part, wait, end, or reach `limit`,
        where others stand."""
        while at < limit:
            instruction = self._kernel.instructions[at]
            name, guard = instruction.parts[0], self._guards[at]
            self._executed[at] += len(lanes.warps)
            holds = None if guard is None else guard[lanes.chosen] != instruction.guard[1]  # type: ignore[index]
            if name in ("bra", "ret", "exit"):
                target = self._kernel.labels[instruction.operands[0]] if name == "bra" else None
                if holds is not None and not holds.any():
                    at += 1
                    continue
                leaving = lanes.threads if holds is None else lanes.threads[holds]
                place[lanes.threads] = at + 1
                if target is None:
                    done[leaving] = True
                    return
                place[leaving] = target
                if len(leaving) < len(lanes.threads) or target > limit:
                    return
                at = target
                continue
            if name == "bar" and instruction.parts[1] == "sync":
                place[lanes.threads] = at + 1
                waiting[lanes.threads] = True
                return
            if holds is None or holds.all():
                self._execute(at, lanes)
            elif holds.any():
                self._execute(at, Lanes(lanes.threads[holds], self._threads))
            at += 1
        place[lanes.threads] = at

    def _execute(self, at: int, lanes: Lanes) -> None:
        try:
            self._warpgroups.touch(at, lanes.warps)
            self._run[at](lanes)
        except Fault as fault:
            instruction = self._kernel.instructions[at]
            place = f"instruction {at}: {instruction.opcode} {', '.join(instruction.operands)}"
            raise Fault(f"{fault} ({place})") from None

    def _guard(self, instruction: Instruction) -> np.ndarray | None:
        if instruction.guard is None:
            return None
        return self._registers.source(instruction.guard[0], "pred")

    def _compiled(self, instruction: Instruction) -> Run | None:
        parts, operands = instruction.parts, instruction.operands
        if parts[0] in ("bra", "ret", "exit") or parts[:2] == ("bar", "sync"):
            return None
        if parts[0] == "mov" and "{" in "".join(operands[:2]):
            return self._split_or_joined(instruction)
        special = {
            "ld": self._load,
            "st": self._store,
            "cp": self._copy,
            "bar": self._warp_barrier,
            "fence": lambda _: lambda lanes: self._shared.publish(lanes.threads),
            "shfl": self._shuffle,
            "ldmatrix": self._load_matrices,
            "mma": self._multiply,
            "wgmma": self._warpgroups.compiled,
            "trap": lambda _: _trap,
        }.get(parts[0])
        if special is not None:
            return special(instruction)
        found = arithmetic(parts)
        if found is None:
            raise Fault(f"the interpreter does not know the instruction {instruction.opcode}")
        target = self._registers.target(operands[0], found.result)
        sources = [
            self._registers.source(operand, kind)
            for operand, kind in zip(operands[1:], found.sources, strict=True)
        ]

        def run(lanes: Lanes) -> None:
            chosen = lanes.chosen
            with np.errstate(all="ignore"):
                target[chosen] = found.compute(*(source[chosen] for source in sources))

        return run

    def _split_or_joined(self, instruction: Instruction) -> Run:
        """mov between a register and a vector of two of half its size."""
        kind = instruction.parts[-1]
        half = f"b{4 * size_of(kind)}"
        whole_is_target = not instruction.operands[0].startswith("{")
        whole, members = instruction.operands if whole_is_target else instruction.operands[::-1]
        element = TYPES[half]
        if whole_is_target:
            joined = self._registers.target(whole, kind)
            low, high = (self._registers.source(name, half) for name in split_list(members))

            def join(lanes: Lanes) -> None:
                pair = np.stack([low[lanes.chosen], high[lanes.chosen]], axis=1)
                joined[lanes.chosen] = pair.view(joined.dtype)[:, 0]

            return join
        source = self._registers.source(whole, kind)
        targets = [self._registers.target(name, half) for name in split_list(members)]

        def split(lanes: Lanes) -> None:
            pair = np.ascontiguousarray(source[lanes.chosen]).view(element).reshape(-1, 2)
            for place, target in enumerate(targets):
                target[lanes.chosen] = pair[:, place].view(target.dtype)

        return split

    def _addresses(self, operand: str, space: str) -> Callable[[Lanes], np.ndarray]:
        base, offset = split_address(operand)
        register = self._registers.source(base, "u64" if space == "global" else "u32")
        return lambda lanes: register[lanes.chosen].astype(np.int64) + offset

    def _count(self, space: str, kind: str, lanes: Lanes, addresses: np.ndarray, size: int) -> None:
        if self._counts is not None:
            record = self._counts.global_access if space == "global" else self._counts.shared_access
            record(f"{kind}.{space} {size}", lanes.threads, addresses, size)

    def _load(self, instruction: Instruction) -> Run:
        space, kind = instruction.parts[1], instruction.parts[-1]
        names, size = split_list(instruction.operands[0]), size_of(kind)
        targets = [self._registers.target(name, kind) for name in names]
        total = size * len(names)
        if space == "param":
            _, offset = split_address(instruction.operands[1])
            values = np.frombuffer(self._arguments[offset : offset + total], TYPES[kind])

            def load_parameter(lanes: Lanes) -> None:
                for target, value in zip(targets, values, strict=True):
                    target[lanes.chosen] = value.view(target.dtype)

            return load_parameter
        addresses = self._addresses(instruction.operands[1], space)

        def load(lanes: Lanes) -> None:
            at = addresses(lanes)
            self._count(space, "ld", lanes, at, total)
            if space == "global":
                data = self._memory.read(at, total)
            else:
                data = self._shared.read(lanes.threads, at, total, "ld.shared")
            values = data.view(TYPES[kind])
            for place, target in enumerate(targets):
                column = values[:, place]
                same = target.dtype.itemsize == size
                target[lanes.chosen] = column.view(target.dtype) if same else column

        return load

    def _store(self, instruction: Instruction) -> Run:
        space, kind = instruction.parts[1], instruction.parts[-1]
        sources = [
            self._registers.source(name, kind) for name in split_list(instruction.operands[1])
        ]
        addresses = self._addresses(instruction.operands[0], space)

        def store(lanes: Lanes) -> None:
            at = addresses(lanes)
            data = np.stack([source[lanes.chosen] for source in sources], axis=1).view(np.uint8)
            self._count(space, "st", lanes, at, data.shape[1])
            if space == "global":
                self._memory.write(at, data)
            else:
                self._shared.write(lanes.threads, at, data, "st.shared")

        return store

    def _copy(self, instruction: Instruction) -> Run:
        """cp.async of 16 bytes, its groups and waits."""
        if "commit_group" in instruction.parts:
            return lambda lanes: self._shared.commit(lanes.threads)
        if "wait_group" in instruction.parts:
            pending = int(instruction.operands[0])
            return lambda lanes: self._shared.wait(lanes.threads, pending)
        target = self._addresses(instruction.operands[0], "shared")
        source = self._addresses(instruction.operands[1], "global")
        taken = self._registers.source((*instruction.operands, "16")[3], "u32")

        def copy(lanes: Lanes) -> None:
            to, size = target(lanes), taken[lanes.chosen]
            data = np.zeros((len(to), 16), np.uint8)
            full = size == 16
            if not (full | (size == 0)).all():
                raise Fault("cp.async copies a part of its 16 bytes")
            at = source(lanes)[full]
            if at.size:
                self._count("global", "cp.async", Lanes(lanes.threads[full], self._threads), at, 16)
                data[full] = self._memory.read(at, 16)
            self._count("shared", "cp.async", lanes, to, 16)
            self._shared.copy(lanes.threads, to, data)

        return copy

    def _warp_barrier(self, instruction: Instruction) -> Run:
        return lambda lanes: self._shared.warp_barrier(lanes.whole_warps(instruction.opcode))

    def _shuffle(self, instruction: Instruction) -> Run:
        target = self._registers.target(instruction.operands[0].split("|")[0], "b32")
        sources = [self._registers.source(name, "b32") for name in instruction.operands[1:4]]
        mode = instruction.parts[2]

        def shuffle(lanes: Lanes) -> None:
            lanes.whole_warps("shfl.sync")
            value, argument, clamp = (source[lanes.chosen] for source in sources)
            target[lanes.chosen] = products.shuffled(value, mode, argument, clamp)

        return shuffle

    def _words(self, operand: str) -> list[np.ndarray]:
        return [self._registers.source(name, "b32") for name in split_list(operand)]

    def _load_matrices(self, instruction: Instruction) -> Run:
        targets = self._words(instruction.operands[0])
        addresses = self._addresses(instruction.operands[1], "shared")

        def load(lanes: Lanes) -> None:
            lanes.whole_warps("ldmatrix")
            at = addresses(lanes)
            self._count("shared", "ldmatrix", lanes, at, 16)
            rows = self._shared.read(lanes.threads, at, 16, "ldmatrix")
            for target, words in zip(targets, products.load_matrices(rows), strict=True):
                target[lanes.chosen] = words

        return load

    def _multiply(self, instruction: Instruction) -> Run:
        bits = 4 if "s4" in instruction.parts else 8
        left, right = self._words(instruction.operands[1]), self._words(instruction.operands[2])
        added = [
            self._registers.source(name, "s32") for name in split_list(instruction.operands[3])
        ]
        targets = [
            self._registers.target(name, "s32") for name in split_list(instruction.operands[0])
        ]

        def multiply(lanes: Lanes) -> None:
            lanes.whole_warps("mma")
            a, b = (np.stack([word[lanes.chosen] for word in words]) for words in (left, right))
            sums = products.multiplied(a, b, bits)
            accumulate(sums, added, targets, lanes.chosen)

        return multiply


def accumulate(
    sums: np.ndarray,
    added: list[np.ndarray],
    targets: list[np.ndarray],
    chosen: slice | np.ndarray,
) -> None:
    """Adds exact `sums` to registers. Raises Fault where int32 cannot hold the result."""
    for total, addend, target in zip(sums, added, targets, strict=True):
        exact = addend[chosen] + total
        if (exact < -(2.0**31)).any() or (exact >= 2.0**31).any():
            raise Fault("an accumulator overflows")
        target[chosen] = exact.astype(np.int32)


def _trap(lanes: Lanes) -> None:
    raise Fault("trap")


def _shared_bytes_of(instruction: Instruction) -> int:
    """The size of an access to shared memory; large for any other instruction."""
    if instruction.parts[0] not in ("ld", "st") or instruction.parts[1] != "shared":
        return _NOWHERE
    vector = 0 if instruction.parts[0] == "ld" else 1
    return size_of(instruction.parts[-1]) * len(split_list(instruction.operands[vector]))
