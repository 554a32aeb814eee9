"""Watching one forward pass from outside: how far it is, and a chance to stop it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import nn

from model.network.network import Network

Observer = Callable[[str, float], None]
"""Called with the stage ("aggregator" or "heads") and the share of it that is done, in (0, 1]."""


@contextmanager
def observed(net: Network, observer: Observer, with_tracks: bool = False) -> Iterator[None]:
    """Within the context `observer` is called after every block and head of `net`; what it raises
    ends the pass.

    The track head runs, and counts, only in passes with query points.
    """
    blocks = [net.get_submodule(block.name) for block in net.blocks()]
    heads = list(net.heads(with_tracks))
    with ExitStack() as stack:
        for stage, modules in (("aggregator", blocks), ("heads", heads)):
            for hook in _counting(stage, modules, observer):
                stack.callback(hook.remove)
        yield


def _counting(stage: str, modules: list[Any], observer: Observer) -> list[Any]:
    done = 0

    def step(module: nn.Module, arguments: Any, output: Any) -> None:
        nonlocal done
        done += 1
        observer(stage, min(done / len(modules), 1.0))

    return [module.register_forward_hook(step) for module in modules]
