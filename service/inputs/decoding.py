"""Decodes pictures in processes that can be ended: one that takes more processor time or memory
than a picture of its size needs, or breaks its decoder, takes nothing down with it.

A progressive JPEG of a few hundred kilobytes may ask for minutes of work, and no decoder can be
stopped from outside while it works on a thread.
"""

from __future__ import annotations

import atexit
import json
import math
import mmap
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from contextlib import ExitStack, suppress
from typing import Any, BinaryIO

from PIL import Image

from service.inputs import picture_process

_SECONDS, _SECONDS_A_MEGAPIXEL = 2.0, 0.2  # of processor time; a slow decoder needs a fifth of it
_MEMORY_BYTES, _MEMORY_A_PIXEL = 2**30, 48  # of address space, most of it libraries
_PATIENCE = 20  # seconds that pass for one of processor time, on a machine with much to do


class DecodingError(Exception):
    """A picture can't be decoded, or not within its limits."""


class Decoder:
    """Starts the process that decodes when it is first needed, and again whenever it has ended.
    Safe to call from several threads."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        atexit.register(self.close)

    def start(self) -> None:
        """Be ready, so that the first picture does not have to wait."""
        with self._guard:
            self._connected()

    def decode(self, file: BinaryIO, pixels: int) -> Image.Image:
        """The picture in `file`, which has `pixels` by its header, as `upright` of
        `model.scene.pictures` gives it. Raises DecodingError."""
        seconds = _SECONDS + _SECONDS_A_MEGAPIXEL * pixels / 1e6
        order = {
            "pixels": pixels,
            "seconds": math.ceil(seconds),
            "memory": _MEMORY_BYTES + _MEMORY_A_PIXEL * pixels,
            "patience": math.ceil(_PATIENCE * seconds),
        }
        with ExitStack() as stack:
            picture = stack.enter_context(_memory_file())
            file.seek(0)
            shutil.copyfileobj(file, picture)
            picture.flush()
            picture.seek(0)
            result = stack.enter_context(_memory_file())
            found = self._ask(order, picture.fileno(), result.fileno())
            if "error" in found:
                raise DecodingError(found["error"])
            size, mode = tuple(found["size"]), found["mode"]
            with mmap.mmap(result.fileno(), 0, access=mmap.ACCESS_READ) as content:
                return Image.frombytes(mode, size, memoryview(content))

    def close(self) -> None:
        """End the process and whatever it is decoding. It starts again if it is needed again."""
        with self._guard:
            self._end()

    def _ask(self, order: dict[str, Any], picture: int, result: int) -> dict[str, Any]:
        answer, write_end = os.pipe()
        with os.fdopen(answer, "rb") as reader:
            try:
                self._send(json.dumps(order).encode(), [picture, result, write_end])
            finally:
                os.close(write_end)
            given = reader.read()
        if not given:
            raise DecodingError(
                "it breaks its decoder, or takes more time or memory than a picture of its size "
                "needs"
            )
        found: dict[str, Any] = json.loads(given)
        return found

    def _send(self, message: bytes, files: list[int]) -> None:
        for attempt in (1, 2):
            with self._guard:
                control = self._connected()
            try:
                socket.send_fds(control, [message], files)
                return
            except OSError as error:  # it has ended since
                with self._guard:
                    if self._control is control:
                        self._end()
                if attempt == 2:
                    raise DecodingError("there is no process to decode it") from error

    def _connected(self) -> socket.socket:
        if self._control is not None and self._process is not None:
            if self._process.poll() is None:
                return self._control
            self._end()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            number = theirs.fileno()
            self._process = subprocess.Popen(
                [
                    sys.executable, "-I", picture_process.__file__, str(number),
                    json.dumps([entry or os.getcwd() for entry in sys.path]),
                ],
                pass_fds=[number],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={"PATH": os.defpath, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
                start_new_session=True,
            )  # fmt: skip
        self._control = ours
        if ours.recv(16) != b"ready":
            self._end()
            raise DecodingError("the process that decodes pictures can't be started")
        return ours

    def _end(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


def _memory_file() -> Any:
    """A file that has no name and, where the system can do that, lies in memory."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("picture"), "w+b")
    return tempfile.TemporaryFile()


decoder = Decoder()
"""The one of this process."""
