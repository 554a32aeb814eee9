"""Makes the files of a result. One is made at most once for the same options; none needs the
network again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import partial
from itertools import takewhile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

from model.files.artifact import sha256
from service.errors import NotFound, NotInResult, NoTracks, Refusal
from service.exports.budget import ExportBudget, predicted_bytes
from service.exports.export import Export, Need, Source
from service.exports.links import in_folder
from service.exports.options import ExportOptions, PointOptions
from service.exports.records import BY_NAME, EXPORTS
from service.result.document import RESULT_FILE, ReconstructionDocument
from service.result.file import MadeFile
from service.result.metric import document_in_metres, scene_in_metres
from service.result.scene import Scene

Keep = Callable[[str, Callable[[Path], None], int], MadeFile]
"""Gives the file of a name, calling the second argument with a path to write if nobody asked for it
before, which takes at most so many bytes of memory."""


class Results(Protocol):
    """Where results lie, and files made from them; each method may raise NotFound."""

    def result(self, name: str) -> ReconstructionDocument: ...

    def scene(self, name: str) -> Scene: ...

    def made(self, name: str, file: str) -> MadeFile | None: ...

    def export(self, name: str, file: str, make: Callable[[Path], None]) -> MadeFile: ...


class Files:
    """The files of one result, made when they are asked for."""

    def __init__(
        self, document: ReconstructionDocument, scene: Callable[[], Scene], keep: Keep
    ) -> None:
        self.document = document
        self._scene = scene
        self._keep = keep

    def file(
        self, export: Export[Any], options: ExportOptions | None = None, index: int = 0
    ) -> MadeFile:
        """The file with `options`; where they say nothing, those of the reconstruction. A file that
        it is made of, or holds, is made with the same ones.

        `index` is the picture, for files that there is one of for each. Raises NotFound, NoTracks,
        NotInResult, and what keeping it raises.
        """
        last = len(self.document.pictures) - 1
        if export.per_picture and not 0 <= index <= last:
            raise NotFound(f"This reconstruction has pictures 0 to {last}; {index} was asked for.")
        if not export.fits(self.document):
            raise _lacking(export)
        chosen = self._complete(export.options, options)

        def make(path: Path) -> None:
            document, scene = in_folder(self.described(options)), self._scene()
            factor = getattr(chosen, "metres_per_unit", None)
            if factor is not None and not export.per_picture:
                scene = scene_in_metres(scene, factor)
            source = Source(
                scene,
                chosen,
                index,
                document,
                file=lambda name: self.file(BY_NAME[name], options),
                files=lambda: self._before(export, options),
            )
            export.write(source, path)

        bytes = predicted_bytes(export, chosen, self.document, index)
        return self._keep(_key(export.name_of(index), chosen), make, bytes)

    def described(self, options: ExportOptions | None) -> ReconstructionDocument:
        """The document, in metres if a file with `options` is."""
        factor = getattr(options, "metres_per_unit", None)
        return self.document if factor is None else document_in_metres(self.document, factor)

    def makers(
        self, exports: Iterable[Export[Any]] = EXPORTS, options: ExportOptions | None = None
    ) -> dict[str, Callable[[], MadeFile]]:
        """What makes the files of those `exports` that this result has, by the files' names."""
        return {
            export.name_of(index): partial(self.file, export, options, index)
            for export in exports
            if export.fits(self.document)
            for index in export.indices(self.document)
        }

    def _before(
        self, export: Export[Any], options: ExportOptions | None
    ) -> Iterator[tuple[str, MadeFile]]:
        earlier = takewhile(lambda other: other is not export, EXPORTS)
        archived = (other for other in earlier if other.archived)
        for name, make in self.makers(archived, options).items():
            yield name, make()

    def _complete(self, wanted: type[ExportOptions], given: ExportOptions | None) -> ExportOptions:
        sent = {} if given is None else given.model_dump(exclude_unset=True)
        own = self.document.options if issubclass(wanted, PointOptions) else {}
        values = {**own, **sent}
        return wanted.model_validate(
            {name: values[name] for name in wanted.model_fields if name in values}
        )


class Catalogue:
    """Makes and finds the files of all results in `results`, within a budget of `memory` bytes."""

    def __init__(self, results: Results, memory: int = 2**30) -> None:
        self._results = results
        self._budget = ExportBudget(memory)

    def files(self, result: str, insist: bool = False) -> Files:
        """Those of one result. Raises NotFound.

        Making one may raise ExportsBusy, unless somebody `insists` and waits as long as it takes.
        """
        results = self._results

        def keep(file: str, make: Callable[[Path], None], bytes: int) -> MadeFile:
            made = results.made(result, file)
            if made is not None:
                return made
            with self._budget.taken(bytes, insist):
                return results.export(result, file, make)

        return Files(results.result(result), lambda: results.scene(result), keep)


def write_files(
    scene: Scene,
    out: Path,
    names: Collection[str] | None = None,
    progress: Callable[[float], None] = lambda share: None,
) -> ReconstructionDocument:
    """Write ``result.json`` and the files `names`, or all that the archive holds, into the folder
    `out`.

    A file appears in its place only when all have been made. Returns the document as written.
    Raises OSError, and KeyError for a name that no file of this scene has.
    """
    document = in_folder(scene.document)
    out.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".files-", dir=out) as folder:
        kept: dict[str, MadeFile] = {}

        def keep(name: str, make: Callable[[Path], None], bytes: int) -> MadeFile:
            if name not in kept:
                path = Path(folder, name)
                make(path)
                kept[name] = MadeFile(path, path.stat().st_size, sha256(path))
            return kept[name]

        files = Files(document, lambda: scene, keep)
        makers = files.makers()
        wanted = (
            files.makers(export for export in EXPORTS if export.archived)
            if names is None
            else names
        )
        made: dict[str, MadeFile] = {}
        for name in wanted:
            made[name] = makers[name]()
            progress(len(made) / len(wanted))
        for name, file in made.items():
            target = out / name
            target.parent.mkdir(parents=True, exist_ok=True)
            file.path.replace(target)
    (out / RESULT_FILE).write_text(document.model_dump_json(indent=1) + "\n", "utf-8")
    return document


def _lacking(export: Export[Any]) -> Refusal:
    """Why a result has no such file."""
    if not export.installed:
        return NotInResult(
            f"This service can't make {export.name}: it lacks the Python package "
            f"{export.package}, which the extra `refinement` installs."
        )
    if export.needs is Need.TRACKS:
        return NoTracks("This reconstruction was made without query_points, so it has no tracks.")
    what = "dense depth" if export.needs is Need.DENSE else "refined cameras"
    return NotInResult(
        f"This reconstruction has no {what}, which {export.name} is made of; `refinement` in its "
        "document says why."
    )


def _key(name: str, options: ExportOptions) -> str:
    """The name under which a file with these options is kept; never a path."""
    name = name.replace("/", "-")
    chosen = options.model_dump()
    if not chosen:
        return name
    return f"{hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()[:16]}-{name}"
