"""A service on a local Ray cluster whose passes take a second or two, and wait in their middle
while a file is there. While there is one named broken beside it, the device of each replica fails.

HOLD=FILE python -m tests.service.ray.slow_replica serve --engine ray ...
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import torch

from quantvggt.command import main
from service.ray.replica import Replica
from tests.service.failing_service import ILLEGAL

SLEEP_SECONDS = 0.2  # after each of the blocks that attend within a frame
ROOM = 8
DEADLY = 7


class SlowReplica(Replica):
    """Has no memory for more than `ROOM` pictures at a time, and dies of exactly `DEADLY`."""

    def __init__(self, *settings: Any) -> None:
        super().__init__(*settings)
        net = self._engine.net
        net.register_forward_pre_hook(_refuse)
        for block in net.aggregator.frame_blocks:
            block.register_forward_hook(lambda *_: time.sleep(SLEEP_SECONDS))
        net.aggregator.frame_blocks[2].register_forward_hook(_wait)


def _wait(*_: Any) -> None:
    while Path(os.environ["HOLD"]).exists():
        time.sleep(0.02)


def _refuse(net: Any, arguments: Any) -> None:
    frames = arguments[0].shape[-4]
    if Path(os.environ["HOLD"]).with_name("broken").exists():
        raise RuntimeError(ILLEGAL)
    if frames == DEADLY:
        os._exit(1)
    if frames > ROOM:
        raise torch.OutOfMemoryError("CUDA out of memory")


if __name__ == "__main__":
    from service.ray import replica
    from tests.service.ray import slow_replica

    replica.Replica = slow_replica.SlowReplica  # before Ray is imported, which is when it is wanted
    sys.exit(main(sys.argv[1:]))
