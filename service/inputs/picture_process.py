"""Run as a process of its own: decodes pictures, each in a child with limits that it sets on
itself.

    python -I picture_process.py SOCKET '["/a/folder/of/modules"]'

Each message on the socket is an order in JSON with three open files: the picture, where its pixels
go, and where the answer goes: ``{"mode", "size"}`` or ``{"error"}``, or nothing if the child was
ended by a limit or a fault. The process that forks never touches a picture, so it stays as it was
at its start; it imports what decodes once, so a child is there in milliseconds.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import sys
from typing import Any


def main() -> None:
    control = socket.socket(fileno=int(sys.argv[1]))
    sys.path[:] = json.loads(sys.argv[2])
    import model.scene.pictures  # noqa: F401 - for the children

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started this decides
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the children
    control.sendall(b"ready")
    while True:
        message, files, _, _ = socket.recv_fds(control, 4096, 3)
        if not message:
            return
        if os.fork() == 0:
            try:
                control.close()
                _answer(json.loads(message), *files)
            finally:
                os._exit(0)
        for file in files:
            os.close(file)


def _answer(order: dict[str, Any], picture: int, pixels: int, answer: int) -> None:
    _limit(order)
    try:
        found = _decode(order, picture, pixels)
    except BaseException as error:  # decoders raise a dozen unrelated types on damaged data
        found = {"error": str(error)[:200] or type(error).__name__}
    os.write(answer, json.dumps(found).encode())


def _decode(order: dict[str, Any], picture: int, pixels: int) -> dict[str, Any]:
    import numpy as np
    from PIL import Image

    from model.scene.pictures import FORMATS, upright

    Image.MAX_IMAGE_PIXELS = None  # the limit is the order's
    with os.fdopen(picture, "rb") as file, Image.open(file, formats=FORMATS) as opened:
        if opened.width * opened.height > order["pixels"]:
            raise ValueError("it is larger than its header says")
        image = upright(opened)
    left = memoryview(np.asarray(image).tobytes())
    while left:
        left = left[os.write(pixels, left) :]
    return {"mode": image.mode, "size": image.size}


def _limit(order: dict[str, Any]) -> None:
    """Bound processor time, memory, file size and open files of this process, for good."""
    for what, value in (
        (resource.RLIMIT_CPU, order["seconds"]),
        (resource.RLIMIT_AS, order["memory"]),
        (resource.RLIMIT_FSIZE, 4 * order["pixels"]),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (value, value))
    signal.alarm(order["patience"])


if __name__ == "__main__":
    main()
