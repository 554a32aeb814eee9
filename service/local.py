"""Reconstructing in this process, without a server: the same stages and files, on a temporary folder."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from service.exports.catalogue import Catalogue
from service.inference.engine import Engine
from service.inputs.body import SentFile, Upload, display_name
from service.inputs.options import read_options
from service.inputs.prepared import PreparedScene, prepare
from service.jobs.job import Job, new_id
from service.pipeline.work import Work
from service.settings import Settings
from service.storage.folder import Storage
from service.telemetry.metrics import Metrics

Progress = Callable[[str, float], None]
"""Called with what is being done ("load", "reconstruct", "export") and the share of it that is done."""

Choose = Callable[[dict[str, Any]], Sequence[str]]
"""From a result's document to the names of the files that are wanted."""


def reconstruct_here(
    settings: Settings,
    files: Sequence[Path],
    options: Mapping[str, str],
    out: Path,
    progress: Progress,
    choose: Choose | None = None,
) -> dict[str, Any]:
    """Load the model, reconstruct `files`, write the files that `choose` names, or all, into the folder `out`.

    Returns the result's document as the service would send it. Raises ArtifactError, a Problem, or OSError.
    """
    engine = Engine(settings)
    prepared = _prepared(engine, settings, files, options)
    progress("load", 0.0)
    engine.load()
    storage = Storage(None)
    try:
        catalogue = Catalogue(storage)
        now = time.time()
        fingerprint = prepared.fingerprint(engine.digest)
        job = Job(new_id(), "", fingerprint, len(prepared.pixels), 0.0, now + settings.job_timeout, now)
        storage.accept(job.id, prepared.save)
        work = Work(engine, storage, catalogue, Metrics(settings.device, 1))
        work.do(job, lambda stage, share: progress("reconstruct", share))
        document = storage.result(job.result).served_at(f"/reconstructions/{job.id}").model_dump(mode="json")
        makers = catalogue.files(job.result)
        names = list(makers) if choose is None else choose(document)
        progress("export", 0.0)
        for done, name in enumerate(names, start=1):
            target = out / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(makers[name]().path, target)
            progress("export", done / len(names))
        return document
    finally:
        storage.close()


def _prepared(engine: Engine, settings: Settings, files: Sequence[Path], options: Mapping[str, str]) -> PreparedScene:
    with ExitStack() as stack:
        opened = [stack.enter_context(path.open("rb")) for path in files]
        sent = tuple(
            SentFile(display_name(path.name, i), file) for i, (path, file) in enumerate(zip(files, opened, strict=True))
        )
        upload = Upload(sent, (), dict(options))
        return prepare(upload, read_options(dict(options)), settings, engine.image_size, engine.patch_size)
