"""Global memory: what a launch was given pointers to, and nothing else.

Every region gets addresses of its own, far from the others', so that a step beyond its end never
lands in another. Reads must be of what the caller filled, writes of what it asked for, and no byte
may be written twice: the kernels' blocks run in no order.
"""

from __future__ import annotations

import ctypes

import numpy as np

from tests.kernels.cuda.ptx.fault import Fault

_REGION_BITS = 40
_ALIGNMENT = 512  # that of a region's address is kept up to this


class _Region:
    def __init__(self, name: str, pointer: int, size: int, writable: bool) -> None:
        self.name, self.size = name, size
        self.first = pointer % _ALIGNMENT
        self.bytes = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(pointer))
        self.written = np.zeros(size, bool) if writable else None


class GlobalMemory:
    """Regions of this process's memory under addresses of their own."""

    def __init__(self) -> None:
        self._regions: list[_Region] = []

    def add(self, name: str, pointer: int, size: int, *, writable: bool) -> int:
        """The address of `size` bytes at `pointer`."""
        self._regions.append(_Region(name, pointer, size, writable))
        return (len(self._regions) << _REGION_BITS) + self._regions[-1].first

    def read(self, addresses: np.ndarray, size: int) -> np.ndarray:
        """uint8 `[n, size]` at `n` addresses (int64)."""
        loaded = np.empty((len(addresses), size), np.uint8)
        for chosen, region, places in self._places(addresses, size):
            if region.written is not None:
                raise Fault(f"{region.name} is read, which the kernel is to write")
            loaded[chosen] = region.bytes[places]
        return loaded

    def write(self, addresses: np.ndarray, data: np.ndarray) -> None:
        """Stores uint8 `[n, size]` at `n` addresses (int64)."""
        for chosen, region, places in self._places(addresses, data.shape[1]):
            if region.written is None:
                raise Fault(f"{region.name} is written, which is an input")
            written = np.count_nonzero(region.written)
            if region.written[places].any():
                raise Fault(f"{region.name}: two threads write the same bytes")
            region.written[places] = True
            if np.count_nonzero(region.written) != written + places.size:
                raise Fault(f"{region.name}: two threads write the same bytes")
            region.bytes[places] = data[chosen]

    def check_written(self) -> None:
        """Raises Fault if an output has a byte that no thread wrote."""
        for region in self._regions:
            if region.written is not None and not region.written.all():
                missing = region.size - np.count_nonzero(region.written)
                raise Fault(f"{region.name}: {missing} of {region.size} bytes are not written")

    def _places(self, addresses: np.ndarray, size: int):  # type: ignore[no-untyped-def]
        if (addresses % size).any():
            raise Fault(f"an address of global memory is no multiple of {size}")
        numbers = addresses >> _REGION_BITS
        for number in np.unique(numbers).tolist():
            if not 1 <= number <= len(self._regions):
                raise Fault(
                    f"global memory is accessed at {int(addresses.min()):#x}, which is nobody's"
                )
            region = self._regions[number - 1]
            chosen = numbers == number
            offsets = addresses[chosen] - (number << _REGION_BITS) - region.first
            if (offsets < 0).any() or (offsets + size > region.size).any():
                raise Fault(
                    f"{region.name}: bytes {offsets.min()} to {offsets.max() + size} are accessed "
                    f"of {region.size}"
                )
            yield chosen, region, offsets[:, None] + np.arange(size)
