"""What an export is: one record, from which the route, the link, /capabilities, the archive and the
page are made."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from service.exports.options import ExportOptions
from service.result.document import PictureDocument, ReconstructionDocument
from service.result.file import MadeFile
from service.result.scene import Grid, Scene


class Need(str, Enum):
    """What not every result has."""

    TRACKS = "tracks"
    """Query points that were followed through the pictures."""
    CAMERAS = "cameras"
    """Cameras that were refined, and with them the original pictures."""
    DENSE = "dense"
    """Depth from the original pixels."""


O = TypeVar("O", bound=ExportOptions)  # noqa: E741
Kind = Literal["points", "cameras", "depth", "confidence"]


@dataclass(frozen=True)
class Source(Generic[O]):
    """What a writer reads.

    `index` is the picture that is asked for, 0 for a file of the whole scene. `file` makes another
    file of the same result, by its name. Only the archive and its manifest need the rest: the
    result's `document` with links relative to its folder, and `files`, which makes the files that
    come before this one in the list of exports and gives them with their names.
    """

    scene: Scene
    options: O
    index: int
    document: ReconstructionDocument
    file: Callable[[str], MadeFile]
    files: Callable[[], Iterator[tuple[str, MadeFile]]]


@dataclass(frozen=True, kw_only=True)
class Export(Generic[O]):
    """One file that can be had of a result; with ``{index}`` in its name, one for each picture.

    Adding an export is a writer and one of these in `scene_records` or `picture_records`.
    """

    name: str
    """Its path below the result's address, in the result's folder and in the archive."""
    media_type: str
    summary: str
    """What it is, in a few words, for the documentation of the API."""
    link: str
    """Its name among the links of the result document."""
    of: Literal["result", "picture", "depth"] = "result"
    """Whose links those are: the result's, a picture's, or a picture's depth's."""
    options: type[O]
    """What may be chosen by query parameters."""
    write: Callable[[Source[O], Path], object]
    """Writes the file to a path whose folder exists."""
    saved_as: str | None = None
    """What a browser calls it; None for `name`. ``{id}`` and ``{index}`` are filled in."""
    headers: Callable[[PictureDocument], Mapping[str, str]] = lambda picture: {}
    """Further headers of an answer with one picture's file."""
    needs: Need | None = None
    """What this is made of that not every result has."""
    package: str | None = None
    """A Python package that makes this and that not every service has; it is in the extra
    ``refinement``."""
    grid: Grid = "network"
    """The pixel grid of a picture's file that has no option to choose it."""
    own_bytes: int = 0
    """Memory that making it takes beside what goes with the pictures' sizes."""
    variants: Mapping[str, str] = field(default_factory=dict)
    """Names of other exports that ``?format=`` asks for at this one's address, by the value that
    asks for them."""
    accepted_as: tuple[str, ...] = ()
    """Media types of an Accept header that make the result's own address answer with this file."""
    formats: Mapping[Kind, str] = field(default_factory=dict)
    """Its name in the ``output_formats`` of /capabilities, by what it holds."""
    orderable: bool = False
    """Whether a request may order it (the option ``outputs``), so that it is ready when the result
    is."""
    archived: bool = True
    """Whether the archive of everything holds it."""
    label: str | None = None
    """Its text on the page; None if the page does not offer it."""
    use: str | None = None
    """What a file of the whole scene is for, in a sentence on the page."""
    shown: bool = False
    """Whether the page shows it as a picture, with `label` as the text for those who don't see
    it."""

    @property
    def per_picture(self) -> bool:
        """Whether there is one for each picture, and not one of the whole scene."""
        return self.of != "result"

    @property
    def id(self) -> str:
        """A name that is an identifier, for example ``points_ascii`` or ``depth_png``."""
        return f"depth_{self.link}" if self.of == "depth" else self.link

    @property
    def metric_label(self) -> str:
        """What metrics call it: its name, without the picture's number."""
        name = self.saved_as or self.name
        return name.replace("-{index}", "") if self.per_picture else self.name

    def name_of(self, index: int) -> str:
        """The name of picture `index`'s file, or of the only one."""
        return self.name.replace("{index}", str(index))

    def saved_name(self, id: str, index: int) -> str:
        """What a browser calls the file of reconstruction `id` and picture `index`."""
        return (self.saved_as or self.name).replace("{id}", id).replace("{index}", str(index))

    def fits(self, document: ReconstructionDocument) -> bool:
        """Whether it can be made of a result, here."""
        return self.installed and (self.needs is None or _HAS[self.needs](document))

    @property
    def installed(self) -> bool:
        """Whether this service has what makes it."""
        return self.package is None or find_spec(self.package) is not None

    def indices(self, document: ReconstructionDocument) -> range:
        """The pictures that there is a file of; for a file of the whole scene one index, 0."""
        return range(len(document.pictures) if self.per_picture else 1)

    def describe(self) -> dict[str, Any]:
        """What /capabilities says of it."""
        return {
            "name": self.name,
            "media_type": self.media_type,
            "summary": self.summary,
            "of": self.of,
            "link": self.link,
            "options": list(self.options.model_fields),
            "needs": self.needs,
            "orderable": self.orderable,
            "archived": self.archived,
            "label": self.label,
            "use": self.use,
            "shown": self.shown,
        }


_HAS: dict[Need, Callable[[ReconstructionDocument], bool]] = {
    Need.TRACKS: lambda document: document.has_tracks,
    Need.CAMERAS: lambda document: document.has_refined_cameras,
    Need.DENSE: lambda document: document.has_dense_depth,
}
