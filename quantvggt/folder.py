"""The folder that a result is written to: tried before the work, and either the old result or the
whole new one."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from quantvggt.errors import BadInputError
from quantvggt.files import DOCUMENT, is_ours


def try_folder(out: Path, overwrite: bool) -> None:
    """Make the folder `out`. Raises BadInputError if it holds another result, or can't be written
    to."""
    if (out / DOCUMENT).exists() and not overwrite:
        raise BadInputError(
            f"{out} holds a result already; choose another folder or pass --overwrite."
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=out).close()
    except OSError as error:
        raise BadInputError(f"{out} can't be written to: {error.strerror or error}.") from None


@contextmanager
def replacing(out: Path) -> Iterator[Path]:
    """An empty folder to write a result to; it takes the place of the one in `out` when the context
    ends well.

    Files in `out` that are not a result's stay.
    """
    out.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".partial-", dir=out))
    try:
        yield staging
        _remove_result(out, staging)
        for file in sorted(staging.rglob("*")):
            if file.is_file():
                target = out / file.relative_to(staging)
                target.parent.mkdir(parents=True, exist_ok=True)
                file.replace(target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _remove_result(out: Path, staging: Path) -> None:
    for file in sorted(out.rglob("*"), reverse=True):  # what is in a folder before the folder
        if file == staging or staging in file.parents:
            continue
        if file.is_file() and is_ours(file.relative_to(out).as_posix()):
            file.unlink()
            if file.parent != out and not any(file.parent.iterdir()):
                file.parent.rmdir()
