"""Pictures out of a video, read by a process of its own with limits on time, memory and files."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from service.errors import BrokenVideo, TooManyPixels, disk_full, is_full
from service.inputs import video_frames
from service.inputs.body import SentFile, too_many_pictures
from service.inputs.options import Options
from service.result.document import WarningDocument
from service.settings import Limits


def read_frames(
    video: SentFile, options: Options, limits: Limits
) -> tuple[list[SentFile], list[WarningDocument]]:
    """The frames that `options` asks for, as picture files named after their time, and a warning
    where parts of the video are damaged, which are left out.

    By the clock it is one a second without `fps`, fewer if the video is longer than `max_images`
    seconds; by change there are as many as show something new, at most `max_images`.
    Raises BrokenVideo, TooManyPictures or TooManyPixels.
    """
    order = {
        "fps": options.fps,
        "by_change": options.video_frames == "auto",
        "most": limits.max_images,
        "drop_blurred": options.drop_blurred,
        "max_pixels": limits.max_pixels,
        "seconds": limits.video_timeout,
        "file_bytes": limits.max_unpacked_bytes,
    }
    with tempfile.TemporaryDirectory(prefix="video-") as scratch:
        path = Path(scratch, "video")
        with path.open("wb") as copy:
            shutil.copyfileobj(video.file, copy)
        frames = Path(scratch, "frames")
        frames.mkdir()
        found = _run(video, path, frames, order, limits.video_timeout)
        if found.get("too_many"):
            raise too_many_pictures(limits)
        if found.get("pixels"):
            raise TooManyPixels(
                f"{video.name}: {found['error']}; at most {limits.max_pixels} are accepted.",
                filename=video.name,
                max_pixels=limits.max_pixels,
            )
        if "error" in found:
            if is_full(OSError(found["error"])):
                raise disk_full()
            raise BrokenVideo(f"{video.name} can't be read: {found['error']}.", filename=video.name)
        if not found["frames"]:
            raise BrokenVideo(f"{video.name} has no frame that could be read.", filename=video.name)
        stem = Path(video.name).stem[:80]
        taken = [
            SentFile(
                f"{stem}-{frame['seconds']:09.3f}s.png",
                _opened(frames / frame["file"]),
                camera=f"video {stem}",
            )
            for frame in found["frames"]
        ]
        return taken, _damage(video, found["damaged"])


def _damage(video: SentFile, parts: int) -> list[WarningDocument]:
    if not parts:
        return []
    message = f"{video.name} is damaged: {parts} of its frames can't be read and are left out."
    return [WarningDocument(code="video-damaged", message=message)]


def _opened(path: Path) -> Any:
    return path.open("rb")


def _run(
    video: SentFile, path: Path, frames: Path, order: dict[str, Any], timeout: float
) -> dict[str, Any]:
    process = subprocess.Popen(
        [sys.executable, "-I", video_frames.__file__, str(path), str(frames), json.dumps(order)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=frames,
        env={"PATH": os.defpath, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        raise BrokenVideo(
            f"{video.name} could not be read within {timeout:g} seconds; send a shorter one.",
            filename=video.name,
        ) from None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    try:
        found: dict[str, Any] = json.loads(output)
    except ValueError:
        raise BrokenVideo(
            f"{video.name} broke its reader, or took more memory or time than allowed.",
            filename=video.name,
        ) from None
    return found
