"""A refinement's process that somebody has taken over: it answers with what it likes."""

from __future__ import annotations

import os
import pickle
import sys
from pathlib import Path


class Code:
    """Runs a command where it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {Path(sys.argv[1]).parent}/ran",)


if __name__ == "__main__":
    folder, pipe = Path(sys.argv[1]), int(sys.argv[3])
    os.write(pipe, b'["features", NaN]\n[[]]\nnothing\n' + b"x" * 100_000)
    for name in ("answer.pickle", "answer.safetensors", "task.pickle"):
        (folder / name).write_bytes(pickle.dumps(Code()))
