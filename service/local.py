"""Reconstructing in this process, without a server: the same stages and files, on a temporary folder."""

from __future__ import annotations

import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from service.exports.catalogue import Catalogue
from service.exports.unpacking import extract
from service.inference.engine import Engine
from service.inputs.body import SentFile, Upload, display_name
from service.inputs.options import read_options
from service.inputs.prepared import prepare
from service.jobs.job import new_id
from service.pipeline.task import Task
from service.pipeline.work import Work
from service.result.document import ReconstructionDocument
from service.settings import Settings
from service.storage.folder import Storage
from service.telemetry.metrics import Metrics


def reconstruct_here(
    settings: Settings,
    files: Sequence[Path],
    options: Mapping[str, str],
    out: Path,
    progress: Callable[[str, float], None],
) -> ReconstructionDocument:
    """Load the model, reconstruct `files`, write every file into `out`; returns the document as written.

    Raises ArtifactError, a Problem, or OSError.
    """
    with ExitStack() as stack:
        opened = [stack.enter_context(path.open("rb")) for path in files]
        sent = tuple(
            SentFile(display_name(path.name, i), file) for i, (path, file) in enumerate(zip(files, opened, strict=True))
        )
        engine = Engine(settings)
        prepared = prepare(
            Upload(sent, (), dict(options)), read_options(dict(options)), settings, engine.image_size, engine.patch_size
        )
    progress("loading", 0.0)
    engine.load()
    storage = Storage(None)
    try:
        catalogue = Catalogue(storage)
        id = new_id()
        task = Task(id, id, time.time())
        storage.accept(task.id, prepared.save)
        Work(engine, storage, catalogue, Metrics(settings.device, 1)).do(task, progress)
        with zipfile.ZipFile(catalogue.archive(task.result).path) as archive:
            extract(archive, out)
        return storage.result(task.result).in_folder()
    finally:
        storage.close()
