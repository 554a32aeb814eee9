"""A request made ready: pictures on the network's grid as they lie on disk until their turn comes.

What a job keeps is small and complete: 8-bit pixels of the network's grid, each picture's
transform, the user's masks and the options. The pictures themselves are kept only where the scene
is to be refined on them.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from model.errors import ImageError
from model.families.family import Grid
from model.scene.preprocess import FittedImages, ImageTransform, PreprocessedImages, fit_images
from service.errors import BrokenPicture, InvalidOption, TooManyPictures, disk_full, is_full
from service.inputs.body import SentFile, Upload
from service.inputs.collection import collected
from service.inputs.masks import hides_all, read_mask
from service.inputs.options import KnownCamera, Options, PicturePoint
from service.inputs.originals import (
    Original,
    Originals,
    RefinementOrder,
    focal_length,
    to_json,
)
from service.inputs.pictures import DecodedPictures
from service.inputs.previews import PreviewedPictures
from service.inputs.scratch import Scratch, stacked
from service.result.array_file import map_arrays, write_arrays
from service.result.document import WarningDocument
from service.settings import Limits, RefinementSettings, refinement_version

_SURE = 1e-6
_PREVIEW = "preview_"
_FILE = "scene.safetensors"  # one file, so that one sync brings all of it to the disk


@dataclass(frozen=True)
class PreparedScene:
    """S pictures on the network grid [H, W].

    `pixels` is uint8 [S,H,W,3]; `keep` is bool [S,H,W], False where a user's mask hides a pixel.
    Both are mapped from files, not held in memory.
    With a `refinement` there is an entry of `originals` for each picture. Their files lie beside
    what `save` writes; `kept` holds them until then. Without one there are `previews`, files of
    the pictures to be looked at.
    """

    pixels: NDArray[np.uint8]
    keep: NDArray[np.bool_]
    transforms: tuple[ImageTransform, ...]
    filenames: tuple[str, ...]
    mode: str
    options: Options
    seconds: dict[str, float] = field(compare=False)
    refinement: RefinementOrder | None = None
    originals: tuple[Original, ...] = ()
    kept: Originals | None = field(default=None, compare=False)
    previews: tuple[NDArray[np.uint8], ...] = field(default=(), compare=False)
    warnings: tuple[WarningDocument, ...] = ()

    def batch(self, frames: Sequence[int] | None = None) -> PreprocessedImages:
        """The network's input for these frames, by default all: exactly what preprocessing gave,
        which is whole 255ths."""
        chosen = range(len(self.pixels)) if frames is None else frames
        images = torch.from_numpy(self.pixels[list(chosen)]).movedim(-1, 1).float() / 255
        return PreprocessedImages(images, tuple(self.transforms[frame] for frame in chosen))

    def fingerprint(self, model: str, rules: Mapping[str, Any] = MappingProxyType({})) -> str:
        """SHA-256 over everything that decides the result: pixels, names, masks, options, the
        model's digest, and the `rules` by which the service divides and runs the scene."""
        document = {**self._document(), **({"rules": dict(rules)} if rules else {})}
        for option in ("timeout", "outputs"):  # neither changes the result
            document["options"].pop(option, None)
        if self.refinement is not None:  # with another version, or with none, it is another result
            document["colmap"] = refinement_version()
        digest = hashlib.sha256(json.dumps([model, document], sort_keys=True).encode())
        for array in (self.pixels, self.keep):
            digest.update(repr(array.shape).encode())
            for frame in array:
                digest.update(np.ascontiguousarray(frame).data)
        return digest.hexdigest()

    def save(self, folder: Path) -> None:
        """Write everything into `folder`, which must exist. Raises OSError."""
        arrays = {"pixels": self.pixels, "keep": self.keep}
        arrays |= {f"{_PREVIEW}{index}": preview for index, preview in enumerate(self.previews)}
        document = json.dumps({**self._document(), "seconds": self.seconds})
        write_arrays(folder / _FILE, arrays, {"scene": document})
        if self.kept is not None:
            self.kept.save(folder)

    def close(self) -> None:
        """Release the originals, which can't be saved any more."""
        if self.kept is not None:
            self.kept.close()

    @classmethod
    def load(cls, folder: Path) -> PreparedScene:
        """The inverse of `save`; also of that of older versions, which may have left jobs in the
        queue."""
        if (folder / _FILE).exists():
            arrays, metadata = map_arrays(folder / _FILE)
            count = sum(name.startswith(_PREVIEW) for name in arrays)
            previews = tuple(arrays[f"{_PREVIEW}{index}"] for index in range(count))
            rest = json.loads(metadata["scene"])
        else:
            arrays = {name: np.load(folder / f"{name}.npy") for name in ("pixels", "keep")}
            previews = ()
            rest = json.loads((folder / "scene.json").read_text())
        order = rest.get("refinement")
        return cls(
            arrays["pixels"],
            arrays["keep"],
            transforms=tuple(
                ImageTransform.from_dict(transform) for transform in rest["transforms"]
            ),
            filenames=tuple(rest["filenames"]),
            mode=rest["mode"],
            options=Options.model_validate(rest["options"]),
            seconds=rest["seconds"],
            refinement=None if order is None else RefinementOrder(**order),
            originals=tuple(Original(**each) for each in rest.get("originals", ())),
            previews=previews,
            warnings=tuple(
                WarningDocument.model_validate(warning) for warning in rest.get("warnings", ())
            ),
        )

    def _document(self) -> dict[str, Any]:
        document = {
            "transforms": [transform.to_dict() for transform in self.transforms],
            "filenames": list(self.filenames),
            "mode": self.mode,
            "options": self.options.text(),
        }
        if self.warnings:
            document["warnings"] = [warning.model_dump() for warning in self.warnings]
        if self.refinement is not None:
            document["refinement"] = asdict(self.refinement)
            document["originals"] = to_json(self.originals)
        return document


def prepare(
    upload: Upload,
    options: Options,
    limits: Limits,
    grid: Grid,
    refinement: RefinementSettings = RefinementSettings(),
    single_pictures: bool = False,
    count: Callable[[float], None] = lambda megapixels: None,
) -> PreparedScene:
    """Decode and pre-process one scene and check the options against it; to be closed by the
    caller. Raises a ServiceError.

    A network for `single_pictures` takes one, whose focal length it does not predict. `count` is
    told the megapixels of all pictures before any is decoded, and may raise.
    """
    started = time.perf_counter()
    mode = options.mode or limits.mode
    order = RefinementOrder.of(options, refinement)
    with ExitStack() as stack:
        scratch = stack.enter_context(_on_disk())
        found = stack.enter_context(collected(upload, options, limits))
        collecting = time.perf_counter() - started
        if single_pictures and len(found.pictures) > 1:
            raise TooManyPictures(
                f"{len(found.pictures)} pictures were sent; this model looks at single pictures "
                "and knows nothing of how several belong together: send one.",
                max_images=1,
            )
        pictures = stack.enter_context(closing(DecodedPictures(found.pictures, limits)))
        count(pictures.megapixels)
        previewed = PreviewedPictures(pictures, scratch)
        names = tuple(picture.name for picture in found.pictures)
        try:
            fitted = fit_images(
                previewed if order is None else pictures,
                mode,
                grid.longer_side,
                grid.patch_size,
                grid.public,
                scratch.keep,
            )
        except ImageError as error:
            name = names[error.index or 0]
            raise BrokenPicture(
                f"{name} can't be used: {error}.", index=error.index, filename=name
            ) from None
        check_against_pictures(options, fitted.transforms)
        pixels = stacked(fitted.frames())
        warnings = list(found.warnings)
        if single_pictures:
            options, more = with_focal_length(options, found.pictures[0], fitted.transforms[0])
            warnings += more
        keep = stacked(_kept(found.masks, fitted, limits, warnings))
        previews = previewed.previews
        originals = None if order is None else Originals(found.pictures, pictures.__getitem__)
    decode = collecting + pictures.decode_seconds
    seconds = {"decode": decode, "preprocess": max(time.perf_counter() - started - decode, 0.0)}
    return PreparedScene(
        pixels,
        keep,
        fitted.transforms,
        names,
        mode,
        options,
        seconds,
        order,
        () if originals is None else originals.pictures,
        originals,
        previews,
        tuple(warnings),
    )


def with_focal_length(
    options: Options, file: SentFile, transform: ImageTransform
) -> tuple[Options, list[WarningDocument]]:
    """The options with a known camera for the one picture: the client's, or else one with the focal
    length that the file tells; and what has to be said about it."""
    if options.knows_intrinsic(0):
        return options, []
    height, width = transform.original_size
    focal = focal_length(file, (width, height))
    if focal is None:
        message = (
            "The focal length of this picture is not known, so that of a usual lens was assumed: "
            "points may be stretched, and lengths have no unit. Send cameras with an intrinsic."
        )
        return options, [WarningDocument(code="assumed-focal-length", message=message)]
    known = KnownCamera(intrinsic=[[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    message = f"The focal length, {focal:.0f} pixels, is the one that the file's EXIF data tell."
    found = WarningDocument(code="focal-length-from-exif", message=message)
    return options.model_copy(update={"cameras": [known]}), [found]


@contextmanager
def _on_disk() -> Iterator[Scratch]:
    """Raises StorageFull where there is no room."""
    try:
        with closing(Scratch()) as scratch:
            yield scratch
    except OSError as error:
        if not is_full(error):
            raise
        raise disk_full() from None


def _kept(
    masks: Sequence[SentFile | None],
    fitted: FittedImages,
    limits: Limits,
    warnings: list[WarningDocument],
) -> Iterator[NDArray[np.bool_]]:
    """What each picture's mask leaves, on the network's grid; adds to `warnings`."""
    for mask, transform in zip(masks, fitted.transforms, strict=True):
        if mask is None:
            yield np.ones(fitted.size, bool)
            continue
        kept = read_mask(mask, transform, limits)
        if not (kept & transform.content_mask().numpy()).any():
            warnings.append(hides_all(mask))
        yield kept


def check_against_pictures(options: Options, transforms: Sequence[ImageTransform]) -> None:
    """Raises InvalidOption where an option names a picture or pixel that does not exist."""
    count = len(transforms)
    if options.cameras is not None:
        if len(options.cameras) != count:
            raise InvalidOption(
                f"cameras has {len(options.cameras)} entries; there are {count} pictures. "
                "Give one per picture, null where nothing is known.",
                option="cameras",
            )
        posed = [
            camera.extrinsic
            for camera in options.cameras
            if camera is not None and camera.extrinsic is not None
        ]
        if len(posed) == 1:
            raise InvalidOption(
                "One extrinsic fixes no scale; give those of at least two pictures.",
                option="cameras",
            )
        if posed and not _apart(np.array(posed)):
            raise InvalidOption(
                "The known cameras all stand in one place, which fixes no scale; give extrinsics "
                "of cameras that stand apart, or none and a known_distance.",
                option="cameras",
            )
    if options.frame_numbers is not None and options.frame_numbers[-1] >= count:
        raise InvalidOption(
            f"frames names picture {options.frame_numbers[-1]}; there are pictures 0 to "
            f"{count - 1}.",
            option="frames",
        )
    if options.known_distance is not None:
        for end in (options.known_distance.a, options.known_distance.b):
            _check_point(end, transforms, "known_distance")
    for x, y in options.query_points or ():
        height, width = transforms[0].original_size
        if not (0 <= x < width and 0 <= y < height):
            raise InvalidOption(
                f"query_points has ({x:g}, {y:g}), outside the first picture of {width} x {height} "
                "pixels.",
                option="query_points",
            )
        if not transforms[0].sees(torch.tensor((x, y))):
            raise InvalidOption(
                f"query_points has ({x:g}, {y:g}), which mode crop cuts off the first picture; use "
                "fit or pad.",
                option="query_points",
            )


def _apart(extrinsics: NDArray[np.float64]) -> bool:
    """Whether the centres of cameras [S, 3, 4] differ by more than their numbers are sure to: one
    millionth of a metre, or of the distance to the origin."""
    centres = -np.einsum("sji,sj->si", extrinsics[:, :, :3], extrinsics[:, :, 3])
    apart = np.linalg.norm(centres - centres[0], axis=1).max()
    return bool(apart > _SURE * max(1.0, np.abs(centres).max()))


def _check_point(point: PicturePoint, transforms: Sequence[ImageTransform], option: str) -> None:
    if point.picture >= len(transforms):
        raise InvalidOption(
            f"{option} names picture {point.picture}; there are pictures 0 to "
            f"{len(transforms) - 1}.",
            option=option,
        )
    height, width = transforms[point.picture].original_size
    if point.x >= width or point.y >= height:
        raise InvalidOption(
            f"{option} has ({point.x:g}, {point.y:g}), outside picture {point.picture} of {width} "
            f"x {height} pixels.",
            option=option,
        )
