"""Reconstructing in this process, without a server: the same stages and files, on a temporary folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from service.application import Application
from service.exports.catalogue import write_files
from service.inference.engine import Engine
from service.inputs.body import SentFile, Upload, display_name
from service.inputs.options import read_options
from service.result.document import ReconstructionDocument
from service.settings import Settings


def reconstruct_here(
    settings: Settings,
    files: Sequence[Path],
    options: Mapping[str, str],
    out: Path,
    progress: Callable[[str, float], None],
) -> ReconstructionDocument:
    """Load the model, reconstruct `files`, write every file into `out`; returns the document as written.

    Raises ArtifactError, a ServiceError, or OSError.
    """
    with ExitStack() as stack:
        application = Application(settings, Engine(settings.inference))
        stack.callback(application.close)
        sent = tuple(
            SentFile(display_name(path.name, index), stack.enter_context(path.open("rb")))
            for index, path in enumerate(files)
        )
        upload = Upload(sent, (), dict(options))
        scene = application.prepare(upload, read_options(upload.options))
        progress("loading", 0.0)
        application.engine.load()
        result = application.run(scene, progress)
        return write_files(application.storage.scene(result), out)
