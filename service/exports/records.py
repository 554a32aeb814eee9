"""Every file that can be had of a result. These records are the only place where an export has
its name."""

from __future__ import annotations

from typing import Any

from service.exports.archive import write_archive, write_manifest
from service.exports.export import Export
from service.exports.media_types import JSON, ZIP
from service.exports.options import PointFileOptions
from service.exports.picture_records import PICTURE_EXPORTS
from service.exports.scene_records import SCENE_EXPORTS

EXPORTS: tuple[Export[Any], ...] = (
    *SCENE_EXPORTS,
    *PICTURE_EXPORTS,
    # The last two hold or list the files of all before them.
    Export(
        name="manifest.json",
        link="manifest",
        media_type=JSON,
        summary="What made this, and every file's SHA-256",
        options=PointFileOptions,
        write=lambda source, path: write_manifest(source.document, source.files(), path),
        label="Manifest",
        use="What made this result, with every file's size and SHA-256.",
    ),
    Export(
        name="everything.zip",
        link="archive",
        media_type=ZIP,
        summary="All files",
        options=PointFileOptions,
        write=lambda source, path: write_archive(source.document, source.files(), path),
        saved_as="reconstruction-{id}.zip",
        archived=False,
        label="Everything (zip)",
        use="Every file of this result in one archive.",
    ),
)

BY_NAME = {export.name: export for export in EXPORTS}
OUTPUTS = tuple(export.name for export in EXPORTS if export.orderable)
"""Files that a request can order, to be ready as soon as it is done. Others are made when asked
for."""
SCENE_FILES = tuple(export.name for export in EXPORTS if not export.per_picture)
"""Files that there is one of for the whole scene."""
