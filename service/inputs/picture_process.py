"""Run as a process of its own: decodes pictures, those of each request in a child with limits that
it sets on itself.

    python -I picture_process.py SOCKET '["/a/folder/of/modules"]'

Each message on the socket is the limits of a request in JSON, with an open socket to its child.
Each message on that one is an order in JSON with two open files: the picture, and where its pixels
go. It is answered by ``{"mode", "size"}`` or ``{"error"}``, or not at all if the child was ended by
a limit or a fault. The process that forks never touches a picture, so it stays as it was at its
start; it imports what decodes once, so a child is there in milliseconds.
"""

from __future__ import annotations

import json
import math
import os
import resource
import signal
import socket
import sys
from typing import Any


def main() -> None:
    control = socket.socket(fileno=int(sys.argv[1]))
    sys.path[:] = json.loads(sys.argv[2])
    from PIL import Image

    import model.scene.pictures  # noqa: F401 - for the children

    Image.init()  # else every child would import the decoders for itself
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started this decides
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the children
    control.sendall(b"ready")
    while True:
        message, files, _, _ = socket.recv_fds(control, 4096, 1)
        if not message:
            return
        if os.fork() == 0:
            try:
                control.close()
                _serve(json.loads(message), socket.socket(fileno=files[0]))
            finally:
                os._exit(0)
        os.close(files[0])


def _serve(limits: dict[str, int], orders: socket.socket) -> None:
    """Decode one picture after another until nobody wants more."""
    _limit(limits)
    while True:
        message, files, _, _ = socket.recv_fds(orders, 4096, 2)
        if not message:
            return
        order = json.loads(message)
        _limit_picture(order, limits)
        try:
            found = _decode(order, *files)
        except BaseException as error:  # decoders raise a dozen unrelated types on damaged data
            found = {"error": str(error)[:200] or type(error).__name__}
        signal.alarm(0)
        orders.send(json.dumps(found).encode())


def _decode(order: dict[str, Any], picture: int, result: int) -> dict[str, Any]:
    import numpy as np
    from PIL import Image

    from model.scene.pictures import FORMATS, upright

    Image.MAX_IMAGE_PIXELS = None  # the limit is the order's
    with os.fdopen(result, "wb") as pixels, os.fdopen(picture, "rb") as file:
        with Image.open(file, formats=FORMATS) as opened:
            if opened.width * opened.height > order["pixels"]:
                raise ValueError("it is larger than its header says")
            image = upright(opened, order["mask"])
        pixels.write(np.ascontiguousarray(image).data.cast("B"))
    return {"mode": image.mode, "size": image.size}


def _limit(limits: dict[str, int]) -> None:
    """Bound processor time, memory, file size and open files of this process, for good."""
    for what, value in (
        (resource.RLIMIT_CPU, limits["seconds"]),
        (resource.RLIMIT_AS, limits["memory"]),
        (resource.RLIMIT_FSIZE, limits["bytes"]),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (value, value))


def _limit_picture(order: dict[str, Any], limits: dict[str, int]) -> None:
    """Bound processor time and seconds that pass until the next picture."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    until = math.ceil(used.ru_utime + used.ru_stime) + order["seconds"]
    resource.setrlimit(resource.RLIMIT_CPU, (min(until, limits["seconds"]), limits["seconds"]))
    signal.alarm(order["patience"])


if __name__ == "__main__":
    main()
