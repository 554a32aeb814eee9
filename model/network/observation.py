"""Watching one forward pass from outside: how far it is, and a chance to stop it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from model.network.network import Kind, Network

Observer = Callable[[str, float], None]
"""Called with the stage ("aggregator" or "heads") and the share of it that is done, in (0, 1]."""


@contextmanager
def observed(net: Network, observer: Observer, with_tracks: bool = False) -> Iterator[None]:
    """Within the context `observer` is called after every step of a block and after every head of
    `net`; what it raises ends the pass.

    A step of a block is all frames or some of them. The track head runs, and counts, only in passes
    with query points.
    """
    blocks, heads = net.blocks(), list(net.heads(with_tracks))
    frames = done = finished = 0

    def begin(module: nn.Module, arguments: tuple[Any, ...]) -> None:
        nonlocal frames, done, finished
        frames, done, finished = arguments[0].shape[:-3].numel(), 0, 0

    def step(kind: Kind) -> Callable[..., None]:
        def note(module: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
            nonlocal done
            done += len(arguments[0]) if kind == "local" else frames
            observer("aggregator", min(done / (frames * len(blocks)), 1.0))

        return note

    def end(module: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
        nonlocal finished
        finished += 1
        observer("heads", min(finished / len(heads), 1.0))

    hooks = [net.register_forward_pre_hook(begin)]
    hooks += [
        net.get_submodule(block.name).register_forward_hook(step(block.kind)) for block in blocks
    ]
    hooks += [head.register_forward_hook(end) for head in heads]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
