"""Reconstructing in this process, without a server: the same stages and files, on a temporary
folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from service.application import Application
from service.exports.catalogue import write_files
from service.exports.links import in_folder
from service.inference.engine import Engine
from service.inference.models import Models
from service.inputs.body import SentFile, Upload
from service.inputs.names import display_name
from service.inputs.options import read_options
from service.inputs.prepared import PreparedScene
from service.result.document import ReconstructionDocument
from service.settings import Settings

Progress = Callable[[str, float], None]
"""Called with what is being done ("load", "reconstruct", "export") and the share of it that is
done."""


def reconstruct_here(
    settings: Settings,
    files: Sequence[tuple[str, Path]],
    options: Mapping[str, str],
    out: Path,
    progress: Progress,
    choose: Callable[[ReconstructionDocument], Sequence[str]] | None = None,
) -> ReconstructionDocument:
    """Load the model, reconstruct `files`, each a name and a path, and write the files that
    `choose` names, or all, into the folder `out`.

    `choose` is called with the document as in a folder that has every file. Returns the document as
    written. Raises ArtifactError, a ServiceError, or OSError.
    """
    with _prepared(settings, files, options, progress) as (application, scene):
        result = application.run(scene, lambda stage, share, *found: progress("reconstruct", share))
        made = application.storage.scene(result)
        names = None if choose is None else choose(in_folder(made.document))
        progress("export", 0.0)
        return write_files(made, out, names, lambda share: progress("export", share))


def predict_here(
    settings: Settings,
    files: Sequence[tuple[str, Path]],
    options: Mapping[str, str],
    progress: Progress,
) -> dict[str, Any]:
    """Check `files` and options, load the model, and say what reconstructing them would take, as a
    service does with `dry_run`. Raises what `reconstruct_here` does."""
    with _prepared(settings, files, options, progress) as (application, scene):
        return application.predict(scene).plan


@contextmanager
def _prepared(
    settings: Settings,
    files: Sequence[tuple[str, Path]],
    options: Mapping[str, str],
    progress: Progress,
) -> Iterator[tuple[Application, PreparedScene]]:
    with ExitStack() as stack:
        application = Application(settings, Models.of(settings, Engine))
        stack.callback(application.close)
        sent = tuple(
            SentFile(display_name(name, index), stack.enter_context(path.open("rb")))
            for index, (name, path) in enumerate(files)
        )
        upload = Upload(sent, (), dict(options))
        chosen = read_options(upload.options)
        application.submissions.check_addresses(chosen)
        scene = application.submissions.prepare(upload, chosen)
        stack.callback(scene.close)
        progress("load", 0.0)
        application.models.load()
        yield application, scene
