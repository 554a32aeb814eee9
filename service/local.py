"""Reconstructing in this process, without a server: the same stages and files, on a temporary folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from service.exports.catalogue import Catalogue, write_files
from service.inference.engine import Engine
from service.inputs.body import SentFile, Upload, display_name
from service.inputs.options import read_options
from service.inputs.prepared import prepare
from service.jobs.job import Job, new_id
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
        now = time.time()
        fingerprint = prepared.fingerprint(engine.digest)
        job = Job(new_id(), "", fingerprint, len(prepared.pixels), 0.0, now + settings.job_timeout, now)
        storage.accept(job.id, prepared.save)
        Work(engine, storage, catalogue, Metrics(settings.device, 1)).do(job, progress)
        return write_files(storage.scene(job.result), out)
    finally:
        storage.close()
