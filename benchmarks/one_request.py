"""What one POST /reconstruct of one JPEG sets in motion: files, threads, transactions, syncs.

    python -m benchmarks.one_request [--artifact build/demo/artifact] [--list]

Counted from the first byte of the request until the worker is idle again, on a service in this
process that keeps its jobs in SQLite, with a small network of random weights where no artifact is
given:

- files of this project of which at least one function is entered
- hops from thread to thread: how often a function of the project is entered on another thread than
  the one before it
- transactions of the job store
- fsync: files and folders that the service waits for until they are on the disk; SQLite adds one
  of its own to every transaction that writes

Prints the four numbers and one line of JSON; ``--list`` names what was counted.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import httpx
import torch
from PIL import Image
from sqlalchemy import Engine as Database
from sqlalchemy import event

from benchmarks.served import served
from model import VGGT
from model.families.vggt.presets import PRESETS
from model.files.artifact import save
from quantization.convert import quantize_network
from quantization.recipe import Recipe

_ROOT = str(Path(__file__).parents[1]) + os.sep
_OWN = __file__
_IDLE_SECONDS = 0.3  # after the answer: the worker tidies up; well before it looks for work again


class Counts:
    """What is counted while `running`."""

    def __init__(self) -> None:
        self.running = False
        self.entered: list[tuple[int, str, str]] = []  # thread, file, function
        self.transactions: list[str] = []
        self.synced: list[str] = []

    @contextmanager
    def counting(self) -> Iterator[None]:
        self.running = True
        try:
            yield
        finally:
            self.running = False

    @property
    def files(self) -> list[str]:
        return sorted({file for _, file, _ in self.entered})

    @property
    def hops(self) -> list[str]:
        """Where each hop arrives."""
        pairs = zip(self.entered, self.entered[1:], strict=False)
        return [f"{file}: {name}" for (before, _, _), (now, file, name) in pairs if now != before]

    def install(self) -> None:
        """Watch every thread that begins from now on, every database and every fsync."""
        threading.setprofile(self._profile)
        event.listen(Database, "begin", lambda connection: self._began())
        fsync = os.fsync

        def synced(opened: Any) -> None:
            if self.running:
                self.synced.append(os.readlink(f"/proc/self/fd/{opened}"))
            fsync(opened)

        os.fsync = synced

    def _profile(self, frame: FrameType, kind: str, argument: Any) -> None:
        if self.running and kind == "call":
            file = frame.f_code.co_filename
            if file.startswith(_ROOT) and "site-packages" not in file and file != _OWN:
                function = frame.f_code.co_name
                self.entered.append((threading.get_ident(), file.removeprefix(_ROOT), function))

    def _began(self) -> None:
        if self.running:
            frame: FrameType | None = sys._getframe()
            while frame is not None and not frame.f_code.co_filename.endswith("store.py"):
                frame = frame.f_back
            self.transactions.append("?" if frame is None else frame.f_code.co_name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--artifact", type=Path, help="folder of a quantised model")
    parser.add_argument("--list", action="store_true", help="name what was counted")
    options = parser.parse_args()
    torch.set_num_threads(1)
    counts = Counts()
    counts.install()
    with tempfile.TemporaryDirectory() as folder:
        artifact = options.artifact or _small(Path(folder) / "artifact")
        with (
            served(artifact) as (address, _),
            httpx.Client(base_url=address, trust_env=False, timeout=600) as client,
        ):
            _post(client, 0)  # what is made once is made now
            with counts.counting():
                _post(client, 1)
    if options.list:
        for title, names in (
            ("files", counts.files),
            ("hops, by where they arrive", counts.hops),
            ("transactions", counts.transactions),
            ("fsync", [Path(name).name for name in counts.synced]),
        ):
            print(f"{title}:")
            for name, count in Counter(names).items():
                print(f"  {name}" + (f" x {count}" if count > 1 else ""))
    found = {
        "files": len(counts.files),
        "hops": len(counts.hops),
        "transactions": len(counts.transactions),
        "fsyncs": len(counts.synced),
    }
    for name, number in found.items():
        print(f"{name:<14}{number:4d}")
    print(json.dumps(found))


def _post(client: httpx.Client, shade: int) -> None:
    jpeg = io.BytesIO()
    Image.new("RGB", (640, 480), (shade, 90, 160)).save(jpeg, "JPEG")
    files = {"images": ("picture.jpg", jpeg.getvalue(), "image/jpeg")}
    client.post("/reconstruct", files=files).raise_for_status()
    time.sleep(_IDLE_SECONDS)


def _small(path: Path) -> Path:
    torch.manual_seed(0)
    save(
        quantize_network(VGGT(PRESETS["demo"]), Recipe()), path, provenance={"checkpoint": "small"}
    )
    return path


if __name__ == "__main__":
    main()
