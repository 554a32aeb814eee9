"""Some layers of an artifact with 8-bit activations and the rest as they are: where the loss of
4-bit ones sits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase

from kernels import QuantizedLinear
from model.network.network import Network


def matching(net: Network, wide: Network, pattern: str) -> list[str]:
    """Names of the layers that fit `pattern` and take narrower activations in `net` than in `wide`,
    the same artifact loaded for 8-bit ones.

    In a pattern `*` stands for anything, as in names of files. Raises ValueError if no layer fits.
    """
    others = dict(wide.named_modules())
    able = [
        name
        for name, layer in net.named_modules()
        if isinstance(layer, QuantizedLinear) and _bits(layer) < _bits(others[name])
    ]
    found = [name for name in able if fnmatchcase(name, pattern)]
    if not found:
        known = f"layers with these are {able[0]} to {able[-1]}" if able else "it has none"
        raise ValueError(f"--only {pattern}: no layer of 4-bit activations is called so; {known}")
    return found


@contextmanager
def raised(net: Network, wide: Network, pattern: str) -> Iterator[None]:
    """Within the context the layers of `net` that `matching` finds are those of `wide`."""
    others = dict(wide.named_modules())
    before = {name: net.get_submodule(name) for name in matching(net, wide, pattern)}
    try:
        for name in before:
            net.set_submodule(name, others[name])
        yield
    finally:
        for name, layer in before.items():
            net.set_submodule(name, layer)


def _bits(layer: object) -> int:
    assert isinstance(layer, QuantizedLinear)
    return layer.format.activation_bits
