"""Shared memory of a block, with a check of the order of its accesses that depends on no schedule.

PTX ISA, "Memory Consistency Model", "Asynchronous copy" and "Async proxy". Of two accesses to the
same bytes by different threads, one of them a write, the later one must stand behind a barrier:
`bar.sync`, or `bar.warp.sync` for lanes of one warp. A copy by cp.async is pending until its thread
waits for its group. A product of a warpgroup reads what its writer published by fence.proxy.async
before a barrier; what it reads may not change before it is waited for.

The check works on granules: the smallest piece that any instruction of the kernel accesses.
"""

from __future__ import annotations

import numpy as np

from tests.kernels.cuda.ptx.fault import Fault

WARP = 32
_NEVER = np.iinfo(np.int32).max
_SEVERAL = -2  # in place of one reader's thread or warp


class SharedMemory:
    """`size` bytes at address `base`, of a block of `threads` threads."""

    def __init__(self, size: int, base: int, threads: int, granule: int) -> None:
        self.size, self.base, self._granule = size, base, granule
        self._threads = threads
        self.reset()

    def reset(self) -> None:
        """As at the start of a block: nothing is written."""
        granules, warps = -(-self.size // self._granule), -(-self._threads // WARP)
        self.bytes = np.full(self.size, 0xA5, np.uint8)
        self._arriving = self.bytes.copy()
        self._epoch = 1
        self._warp_epoch = np.zeros(warps, np.int32)
        self._writer = np.full(granules, -1, np.int32)
        self._write_epoch, self._write_warp_epoch = np.zeros((2, granules), np.int32)
        self._reader, self._reader_warp = np.full((2, granules), -1, np.int32)
        self._read_epoch, self._read_warp_epoch = np.zeros((2, granules), np.int32)
        self._published = np.full(granules, _NEVER, np.int32)
        self._pending = np.zeros(granules, bool)
        self._group = np.zeros(granules, np.int32)
        self._committed = np.zeros(self._threads, np.int32)  # groups of each thread
        self._product_reads = np.zeros(granules, np.int32)

    def read(self, threads: np.ndarray, addresses: np.ndarray, size: int, by: str) -> np.ndarray:
        """uint8 `[n, size]`, read by `n` threads at their addresses (int64)."""
        granules = self._granules(addresses, size, by)
        reader = np.broadcast_to(threads[:, None], granules.shape)
        warp = reader // WARP
        writer = self._writer[granules]
        if (writer < 0).any():
            raise Fault(f"{by} reads shared bytes that nobody wrote")
        if self._pending[granules].any():
            raise Fault(f"{by} reads bytes whose cp.async was not waited for")
        if ((writer != reader) & ~self._written_before(granules, warp)).any():
            raise Fault(f"{by} reads what another thread wrote, without a barrier between")
        again = self._read_epoch[granules] == self._epoch
        other = again & (self._reader[granules] != reader)
        elsewhere = again & (self._reader_warp[granules] != warp)
        self._reader[granules] = np.where(other, _SEVERAL, reader)
        self._reader_warp[granules] = np.where(elsewhere, _SEVERAL, warp)
        # several lanes of this very instruction
        self._reader[granules[self._reader[granules] != reader]] = _SEVERAL
        self._reader_warp[granules[self._reader_warp[granules] != warp]] = _SEVERAL
        self._read_epoch[granules] = self._epoch
        self._read_warp_epoch[granules] = self._warp_epoch[warp]
        return self.bytes[(addresses - self.base)[:, None] + np.arange(size)]

    def write(self, threads: np.ndarray, addresses: np.ndarray, data: np.ndarray, by: str) -> None:
        """Stores uint8 `[n, size]` of `n` threads at their addresses (int64)."""
        self._take(threads, self._granules(addresses, data.shape[1], by), by)
        self.bytes[(addresses - self.base)[:, None] + np.arange(data.shape[1])] = data

    def copy(self, threads: np.ndarray, addresses: np.ndarray, data: np.ndarray) -> None:
        """Starts copies of uint8 `[n, 16]`, which arrive when their threads wait for them."""
        granules = self._granules(addresses, data.shape[1], "cp.async")
        self._take(threads, granules, "cp.async")
        self._pending[granules] = True
        self._group[granules] = self._committed[threads][:, None]
        self._arriving[(addresses - self.base)[:, None] + np.arange(data.shape[1])] = data

    def commit(self, threads: np.ndarray) -> None:
        """Closes the group of the copies that each thread started since its last one."""
        self._committed[threads] += 1

    def wait(self, threads: np.ndarray, pending: int) -> None:
        """Lets all groups of these threads arrive but the latest `pending`."""
        last = np.full(self._threads, -1, np.int32)
        last[threads] = self._committed[threads] - pending
        due = np.flatnonzero(self._pending)
        due = due[self._group[due] < last[self._writer[due]]]
        places = due[:, None] * self._granule + np.arange(self._granule)
        self.bytes[places] = self._arriving[places]
        self._pending[due] = False
        self._write_epoch[due] = self._epoch
        self._write_warp_epoch[due] = self._warp_epoch[self._writer[due] // WARP]

    def publish(self, threads: np.ndarray) -> None:
        """Makes what these threads wrote visible to the async proxy, from the next barrier on."""
        chosen = np.zeros(self._threads + 1, bool)
        chosen[threads] = True
        mine = chosen[self._writer] & ~self._pending & (self._published == _NEVER)
        self._published[mine] = self._epoch

    def barrier(self) -> None:
        """All threads of the block met."""
        self._epoch += 1

    def warp_barrier(self, warps: np.ndarray) -> None:
        """The lanes of each of these warps met."""
        self._warp_epoch[warps] += 1

    def read_by_product(self, addresses: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
        """uint8 `[n, size]` for a product, and the granules that it reads."""
        by = "wgmma"
        granules = self._granules(addresses, size, by)
        if (self._writer[granules] < 0).any():
            raise Fault(f"{by} reads shared bytes that nobody wrote")
        if self._pending[granules].any():
            raise Fault(f"{by} reads bytes whose cp.async was not waited for")
        if not (self._published[granules] < self._epoch).all():
            raise Fault(f"{by} reads bytes not published by fence.proxy.async before a barrier")
        data = self.bytes[(addresses - self.base)[:, None] + np.arange(size)]
        return data, granules.reshape(-1)

    def start_product(self, granules: np.ndarray) -> None:
        """A warp's share of a product reads these from now on."""
        self._product_reads[granules] += 1

    def finish_product(self, granules: np.ndarray) -> None:
        """It no longer does."""
        self._product_reads[granules] -= 1

    def check_finished(self) -> None:
        """Raises Fault if copies are still on their way when the block ends."""
        if self._pending.any():
            raise Fault("the block ends before its cp.async copies arrive")

    def _granules(self, addresses: np.ndarray, size: int, by: str) -> np.ndarray:
        offsets = addresses - self.base
        if (offsets < 0).any() or (offsets + size > self.size).any():
            raise Fault(
                f"{by}: bytes {offsets.min()} to {offsets.max() + size} of shared memory are "
                f"accessed, which has {self.size}"
            )
        if (addresses % size).any():
            raise Fault(f"{by}: an address of shared memory is no multiple of {size}")
        return offsets[:, None] // self._granule + np.arange(size // self._granule)

    def _written_before(self, granules: np.ndarray, warp: np.ndarray) -> np.ndarray:
        in_warp = self._writer[granules] // WARP == warp
        return (self._write_epoch[granules] < self._epoch) | (
            in_warp & (self._write_warp_epoch[granules] < self._warp_epoch[warp])
        )

    def _take(self, threads: np.ndarray, granules: np.ndarray, by: str) -> None:
        thread = np.broadcast_to(threads[:, None], granules.shape)
        warp = thread // WARP
        if self._product_reads[granules].any():
            raise Fault(f"{by} overwrites bytes that a running wgmma reads")
        if self._pending[granules].any():
            raise Fault(f"{by} overwrites bytes whose cp.async was not waited for")
        writer = self._writer[granules]
        other = (writer >= 0) & (writer != thread)
        if (other & ~self._written_before(granules, warp)).any():
            raise Fault(f"{by} overwrites what another thread wrote, without a barrier between")
        read = (self._read_epoch[granules] == self._epoch) & (self._reader[granules] != thread)
        in_warp = (self._reader_warp[granules] == warp) & (
            self._read_warp_epoch[granules] < self._warp_epoch[warp]
        )
        if (read & ~in_warp).any():
            raise Fault(f"{by} overwrites what another thread reads, without a barrier between")
        self._writer[granules] = thread
        if (self._writer[granules] != thread).any():
            raise Fault(f"{by}: two threads write the same shared bytes")
        self._write_epoch[granules] = self._epoch
        self._write_warp_epoch[granules] = self._warp_epoch[warp]
        self._published[granules] = _NEVER
