"""Run as a process of its own: samples frames of a video into PNG files, under limits that it sets
on itself.

    python -I video_frames.py VIDEO FOLDER '{"fps": 1.0, "most": 32, "by_change": false, ...}'

Prints one line of JSON: ``{"frames": [{"file", "seconds"}], "blurred": n, "damaged": n}`` or
``{"error", "too_many", "pixels"}``. It imports nothing of this project, so that it stays small and
a fault in a decoder takes nothing down with it.
"""

from __future__ import annotations

import json
import resource
import struct
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_MEMORY_BYTES = 3 * 2**30
_FORMATS = "mov,mp4,matroska,webm,avi"
_SHARPNESS_WIDTH = 320
_BLURRED = 0.25  # of the median sharpness
_CHANGED = 0.1  # 1 - correlation with the last frame taken: a tenth of the picture or so is new
_STRICTER = 1.5  # what that is multiplied by where too many frames have changed,
_UNLIKE = 0.7  # up to here: unlike frames are not told apart any more
_LOOKS_A_SECOND = 10.0
_SMALL = (32, 24)  # width and height that changes are seen at


def limit(seconds: float, file_bytes: int) -> None:
    """Bound processor time, memory, file size and open files of this process, for good."""
    whole = max(1, int(seconds))
    for what, value in (
        (resource.RLIMIT_CPU, whole),
        (resource.RLIMIT_AS, _MEMORY_BYTES),
        (resource.RLIMIT_FSIZE, file_bytes),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (value, value))


def sample(video: str, folder: Path, order: dict[str, Any]) -> dict[str, Any]:
    """Write every frame that is due into `folder`, upright; then drop those far less sharp than the
    median."""
    import av  # after the limits

    fps, most = order["fps"], order["most"]
    with (
        open(video, "rb") as file,
        av.open(file, "r", options={"protocol_whitelist": "pipe"}) as container,
    ):
        if not set(container.format.name.split(",")) & set(_FORMATS.split(",")):
            return {
                "error": f"it is {container.format.name}, not MP4, QuickTime, Matroska, WebM or AVI"
            }
        if not container.streams.video:
            only = "only sound" if container.streams.audio else "it may be cut off"
            return {"error": f"it has no pictures, {only}"}
        stream = container.streams.best("video")  # the first may be a cover
        if stream.codec_context is None:
            return {"error": "its codec is unknown; convert it to H.264 in MP4"}
        if stream.width * stream.height > order["max_pixels"]:
            return _too_large("its frames are", stream.width, stream.height)
        stream.thread_count = 1
        changes = _Changes() if order["by_change"] else None
        interval = 1.0 / (fps or (_LOOKS_A_SECOND if changes else 1.0))
        if not fps and not changes and container.duration:
            interval = max(interval, container.duration / av.time_base / most)
        taken: list[dict[str, Any]] = []
        due: float | None = None
        number = 0
        damaged: list[int] = []
        for seconds, frame in _shown(container, stream, damaged):
            due = seconds if due is None else due  # the first need not be shown at 0
            if seconds + 1e-6 < due:
                continue
            if changes is not None:
                due = max(due + interval, seconds + 0.5 * interval)
                if not changes.new(frame):
                    continue
                if len(taken) >= most:
                    for index in changes.thinned():
                        (folder / taken[index]["file"]).unlink()
                        taken[index] = {}
                    taken = [each for each in taken if each]
                    if len(taken) >= most or not changes.new(frame):
                        continue
            elif len(taken) >= most:
                if fps:
                    return {"error": "too many frames", "too_many": True}
                break
            width, height = _square_pixels(frame, stream)
            if max(frame.width * frame.height, width * height) > order["max_pixels"]:
                return _too_large("a frame is", width, height)
            if changes is None:
                due = max(due + interval, seconds + 0.5 * interval)
            picture = frame.to_image()
            if picture.size != (width, height):
                picture = picture.resize((width, height))
            picture = _upright(picture, frame)
            name, number = f"{number:05d}.png", number + 1
            picture.save(folder / name, compress_level=1)
            size = (folder / name).stat().st_size
            if sum(each["bytes"] for each in taken) + size > order["file_bytes"]:
                return {"error": f"its frames take more than {order['file_bytes']} bytes"}
            sharpness = _sharpness(picture)
            taken.append({"file": name, "seconds": seconds, "bytes": size, "sharpness": sharpness})
            if changes is not None:
                changes.take()
    if order["drop_blurred"] and taken:
        median = sorted(frame["sharpness"] for frame in taken)[len(taken) // 2]
        sharp = [frame for frame in taken if frame["sharpness"] >= _BLURRED * median]
    else:
        sharp = taken
    return {"frames": sharp, "blurred": len(taken) - len(sharp), "damaged": len(damaged)}


class _Changes:
    """Tells the frames that show something new: where what is seen resembles the last frame that
    was taken so little as a frame does with a tenth of it moved out of sight.

    Likeness is the correlation of small grey pictures, which light and contrast don't change.
    """

    def __init__(self) -> None:
        self._least = _CHANGED
        self._every = 1  # of the frames that changed enough
        self._skipped = 0
        self._taken: list[Any] = []
        self._now: Any = None

    def new(self, frame: Any) -> bool:
        """Whether `frame` is to be taken."""
        import numpy as np

        width, height = _SMALL
        small = frame.reformat(width, height, "gray", interpolation="AREA").to_ndarray()
        values = small.astype(np.float32).ravel()
        values -= values.mean()
        self._now = values / max(float(np.linalg.norm(values)), 1.0)
        if self._taken and self._change(self._taken[-1], self._now) < self._least:
            return False
        self._skipped += 1
        return not self._taken or self._skipped >= self._every

    def take(self) -> None:
        """The last frame that was asked about is taken."""
        self._taken.append(self._now)
        self._skipped = 0

    def thinned(self) -> list[int]:
        """Ask for more change, or take fewer of those that change, until some frames that were
        taken are too many: their numbers."""
        dropped: list[int] = []
        while not dropped and self._least < _UNLIKE:
            self._least = min(_STRICTER * self._least, _UNLIKE)
            last = self._taken[0]
            for number, each in enumerate(self._taken[1:], 1):
                if self._change(last, each) < self._least:
                    dropped.append(number)
                else:
                    last = each
        if not dropped:
            self._every *= 2
            dropped = [*range(1, len(self._taken), 2)]
        self._taken = [each for number, each in enumerate(self._taken) if number not in dropped]
        return dropped

    @staticmethod
    def _change(a: Any, b: Any) -> float:
        return 1.0 - float(a @ b)


def _too_large(what: str, width: int, height: int) -> dict[str, Any]:
    return {"error": f"{what} {width} x {height} pixels", "pixels": True}


def _shown(container: Any, stream: Any, damaged: list[int]) -> Iterator[tuple[float, Any]]:
    """The frames in the order in which they are shown, with their times in seconds, which rise.
    What can't be decoded is left out, and its position in the file added to `damaged`.

    AVI stores no times of its frames, only their order in the file, which is that of decoding;
    each frame that comes out of the decoder is shown at the earliest time not yet given away. A
    time elsewhere that is missing or does not rise is one frame later than the one before.
    """
    from av.error import InvalidDataError

    ordered = container.format.name == "avi"
    pause = 1.0 / float(stream.average_rate or stream.guessed_rate or 25)
    slots: deque[float] = deque()
    last = -pause
    for packet in container.demux(stream):
        if ordered and packet.size and packet.dts is not None:
            slots.append(float(packet.dts * packet.time_base))
        try:
            frames = packet.decode()
        except InvalidDataError:
            damaged.append(packet.pos or 0)
            if slots:
                slots.pop()
            continue
        for frame in frames:
            seconds = (slots.popleft() if slots else None) if ordered else frame.time
            if seconds is None or seconds <= last:
                seconds = last + pause
            last = seconds
            yield seconds, frame


def _square_pixels(frame: Any, stream: Any) -> tuple[int, int]:
    """Width and height of the frame with square pixels: what its own pixels lack in width or height
    is added."""
    ratio = float(stream.sample_aspect_ratio or 1) or 1.0
    return round(frame.width * max(ratio, 1.0)), round(frame.height / min(ratio, 1.0))


def _upright(picture: Any, frame: Any) -> Any:
    """The frame as its display matrix turns and mirrors it, to the nearest quarter turn.

    The matrix holds nine 32-bit numbers, of which (a, b, -, c, d) send x to a x + c y and y to
    b x + d y.
    """
    from PIL import Image

    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return picture
    a, b, _, c, d = struct.unpack_from("=5i", bytes(data))
    if abs(b) + abs(c) > abs(a) + abs(d):  # x and y change places
        picture = picture.transpose(Image.Transpose.TRANSPOSE)
        a, d = c, b
    if a < 0:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if d < 0:
        picture = picture.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    return picture


def _sharpness(picture: Any) -> float:
    """Variance of the Laplacian of the grey picture at a fixed width."""
    import numpy as np

    height = max(3, round(picture.height * _SHARPNESS_WIDTH / picture.width))
    grey = np.asarray(picture.convert("L").resize((_SHARPNESS_WIDTH, height)), np.float32)
    middle = grey[1:-1, 1:-1]
    around = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    return float((around - 4 * middle).var())


def main() -> None:
    video, folder, order = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])
    limit(order["seconds"], order["file_bytes"])
    try:
        found = sample(video, folder, order)
    except Exception as error:  # whatever a decoder raises on hostile bytes is one refusal
        from av.error import FFmpegError

        if isinstance(error, FFmpegError):
            found = {"error": f"it is damaged or cut off ({error.strerror})"}
        else:
            found = {"error": f"{type(error).__name__}: {error}"[:200]}
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
