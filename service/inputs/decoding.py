"""Decodes pictures in processes that can be ended: one that takes more processor time or memory
than a picture of its size needs, or breaks its decoder, takes nothing down with it. All pictures of
a `Decoding` have one process, since starting it costs as much as decoding a small picture.

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
from collections.abc import Sequence
from contextlib import ExitStack, closing, suppress
from typing import Any, BinaryIO

from PIL import Image

from service.inputs import picture_process

_SECONDS, _SECONDS_A_MEGAPIXEL = 2.0, 0.2  # of processor time; a slow decoder needs a fifth of it
_MEMORY_BYTES, _MEMORY_A_PIXEL = 2**30, 48  # of address space, most of it libraries
_PATIENCE = 20  # seconds that pass for one of processor time, on a machine with much to do
_LONGEST_ANSWER = 4096  # bytes
_TIMES = 2  # a picture is decoded: for the network, and to be kept for refinement


class DecodingError(Exception):
    """A picture can't be decoded, or not within its limits."""


class Decoder:
    """Starts the process that forks those that decode when it is first needed, and again whenever
    it has ended. Safe to call from several threads."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        atexit.register(self.close)

    def start(self) -> None:
        """Be ready, so that the first picture does not have to wait."""
        with self._guard:
            self._connected()

    def decode(self, file: BinaryIO, pixels: int, mask: bool = False) -> Image.Image:
        """As `Decoding.decode`, for a picture by itself."""
        with closing(Decoding(self, [pixels])) as decoding:
            return decoding.decode(file, pixels, mask)

    def fork(self, limits: dict[str, int]) -> socket.socket:
        """A connection to a new process, which ends when that is closed. Raises DecodingError."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with theirs:
                self._send(json.dumps(limits).encode(), theirs.fileno())
        except BaseException:
            ours.close()
            raise
        return ours

    def close(self) -> None:
        """End the process and whatever it is decoding. It starts again if it is needed again."""
        with self._guard:
            self._end()

    def _send(self, message: bytes, file: int) -> None:
        for attempt in (1, 2):
            with self._guard:
                control = self._connected()
            try:
                socket.send_fds(control, [message], [file])
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


class Decoding:
    """Decodes the pictures of one request in one process, which is started with the first, and
    again with the next one after a picture was the end of it. To be closed; for one thread."""

    def __init__(self, decoder: Decoder, pixels: Sequence[int]) -> None:
        """`pixels` are those of each picture, by its header."""
        largest = max(pixels)
        self._decoder = decoder
        self._limits = {
            "seconds": _TIMES * sum(_seconds(each) for each in pixels),
            "memory": _MEMORY_BYTES + _MEMORY_A_PIXEL * largest,
            "bytes": 4 * largest,
        }
        self._process: socket.socket | None = None
        self._begun: tuple[BinaryIO, Any] | None = None  # what it decodes now, and where to

    def begin(self, file: BinaryIO, pixels: int, mask: bool = False) -> None:
        """Have the picture decoded while the caller does something else; `decode` gives it. Raises
        DecodingError."""
        seconds = _seconds(pixels)
        patience = _PATIENCE * seconds
        order = {"pixels": pixels, "mask": mask, "seconds": seconds, "patience": patience}
        if self._process is None:
            self._process = self._decoder.fork(self._limits)
        with ExitStack() as stack:
            picture = stack.enter_context(_memory_file())
            file.seek(0)
            shutil.copyfileobj(file, picture)
            picture.flush()
            picture.seek(0)
            result = stack.enter_context(_memory_file())
            files = [picture.fileno(), result.fileno()]
            with suppress(OSError):  # it has ended, and will not answer
                socket.send_fds(self._process, [json.dumps(order).encode()], files)
            picture.close()
            stack.pop_all()
        self._begun = file, result

    def decode(self, file: BinaryIO, pixels: int, mask: bool = False) -> Image.Image:
        """The picture in `file`, which has `pixels` by its header, as `upright` of
        `model.scene.pictures` gives it, a `mask` or not. Raises DecodingError."""
        if self._begun is not None and self._begun[0] is not file:
            self.close()  # nobody wants what it decodes any more
        if self._begun is None:
            self.begin(file, pixels, mask)
        assert self._begun is not None
        (_, result), self._begun = self._begun, None
        with result:
            found = self._answer()
            if "error" in found:
                raise DecodingError(found["error"])
            size, mode = tuple(found["size"]), found["mode"]
            with mmap.mmap(result.fileno(), 0, access=mmap.ACCESS_READ) as content:
                return Image.frombytes(mode, size, memoryview(content))

    def close(self) -> None:
        """Let the process end, if there is one."""
        if self._begun is not None:
            self._begun[1].close()
            self._begun = None
        if self._process is not None:
            self._process.close()
            self._process = None

    def _answer(self) -> dict[str, Any]:
        assert self._process is not None
        given = b""
        with suppress(OSError):  # it has ended
            given = self._process.recv(_LONGEST_ANSWER)
        if not given:
            self.close()
            raise DecodingError(
                "it breaks its decoder, or takes more time or memory than a picture of its size "
                "needs"
            )
        found: dict[str, Any] = json.loads(given)
        return found


def _seconds(pixels: int) -> int:
    """Of processor time that decoding a picture may take."""
    return math.ceil(_SECONDS + _SECONDS_A_MEGAPIXEL * pixels / 1e6)


def _memory_file() -> Any:
    """A file that has no name and, where the system can do that, lies in memory."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("picture"), "w+b")
    return tempfile.TemporaryFile()


decoder = Decoder()
"""The one of this process."""
