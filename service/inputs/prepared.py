"""A request made ready: pictures on the network's grid as they lie on disk until their turn comes.

What a job keeps is small and complete: 8-bit pixels of the network's grid, each picture's
transform, the user's masks and the options. The pictures themselves are kept only where the scene
is to be refined on them.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ImageOps
from safetensors import safe_open
from safetensors.numpy import save_file

from model.errors import ImageError
from model.scene.preprocess import ImageTransform, PreprocessedImages, preprocess_images
from service.errors import BrokenPicture, InvalidOption
from service.inputs.body import SentFile, Upload
from service.inputs.collection import collected, match_masks
from service.inputs.options import Options, PicturePoint
from service.inputs.originals import Original, Originals, RefinementOrder, to_json
from service.inputs.pictures import DecodedPictures
from service.settings import Limits, RefinementSettings, refinement_version

_FILE = "scene.safetensors"  # one file, so that one sync brings all of it to the disk


@dataclass(frozen=True)
class PreparedScene:
    """S pictures on the network grid [H, W].

    `pixels` is uint8 [S,H,W,3]; `keep` is bool [S,H,W], False where a user's mask hides a pixel.
    With a `refinement` there is an entry of `originals` for each picture. Their files lie beside
    what `save` writes; `kept` holds them until then.
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

    def batch(self) -> PreprocessedImages:
        """The network's input: exactly what preprocessing gave, which is whole 255ths."""
        images = torch.from_numpy(self.pixels).movedim(-1, 1).float() / 255
        return PreprocessedImages(images, self.transforms)

    @property
    def megapixels(self) -> float:
        """Of all pictures as they were sent."""
        sizes = (transform.original_size for transform in self.transforms)
        return sum(height * width for height, width in sizes) / 1e6

    def fingerprint(self, model: str) -> str:
        """SHA-256 over everything that decides the result: pixels, names, masks, options and the
        model's digest."""
        document = self._document()
        for option in ("timeout", "outputs"):  # neither changes the result
            document["options"].pop(option, None)
        if self.refinement is not None:  # with another version, or with none, it is another result
            document["colmap"] = refinement_version()
        digest = hashlib.sha256(json.dumps([model, document], sort_keys=True).encode())
        for array in (self.pixels, self.keep):
            digest.update(repr(array.shape).encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def save(self, folder: Path) -> None:
        """Write everything into `folder`, which must exist. Raises OSError."""
        arrays = {"pixels": self.pixels, "keep": self.keep}
        contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        document = json.dumps({**self._document(), "seconds": self.seconds})
        save_file(contiguous, folder / _FILE, {"scene": document})
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
            with safe_open(folder / _FILE, "numpy") as file:
                arrays = {name: file.get_tensor(name) for name in ("pixels", "keep")}
                rest = json.loads(file.metadata()["scene"])
        else:
            arrays = {name: np.load(folder / f"{name}.npy") for name in ("pixels", "keep")}
            rest = json.loads((folder / "scene.json").read_text())
        order = rest.get("refinement")
        return cls(
            **arrays,
            transforms=tuple(
                ImageTransform.from_dict(transform) for transform in rest["transforms"]
            ),
            filenames=tuple(rest["filenames"]),
            mode=rest["mode"],
            options=Options.model_validate(rest["options"]),
            seconds=rest["seconds"],
            refinement=None if order is None else RefinementOrder(**order),
            originals=tuple(Original(**each) for each in rest.get("originals", ())),
        )

    def _document(self) -> dict[str, Any]:
        document = {
            "transforms": [transform.to_dict() for transform in self.transforms],
            "filenames": list(self.filenames),
            "mode": self.mode,
            "options": self.options.text(),
        }
        if self.refinement is not None:
            document["refinement"] = asdict(self.refinement)
            document["originals"] = to_json(self.originals)
        return document


def prepare(
    upload: Upload,
    options: Options,
    limits: Limits,
    image_size: int,
    patch_size: int,
    refinement: RefinementSettings = RefinementSettings(),
) -> PreparedScene:
    """Decode and pre-process one scene and check the options against it; to be closed by the
    caller. Raises a ServiceError."""
    started = time.perf_counter()
    mode = options.mode or limits.mode
    order = RefinementOrder.of(options, refinement)
    with collected(upload, options, limits) as files:
        collecting = time.perf_counter() - started
        pictures = DecodedPictures(files, limits)
        try:
            batch = preprocess_images(
                pictures, mode=mode, image_size=image_size, patch_size=patch_size
            )
        except ImageError as error:
            raise BrokenPicture(f"A picture can't be used: {error}.") from None
        masks = match_masks(upload.masks, files)
        check_against_pictures(options, batch.transforms)
        keep = np.stack(
            [_mask(mask, t, limits) for mask, t in zip(masks, batch.transforms, strict=True)]
        )
        names = tuple(file.name for file in files)
        kept = None if order is None else Originals(files, pictures.__getitem__)
    pixels = (batch.images.movedim(1, -1) * 255).round().to(torch.uint8).numpy()
    decode = collecting + pictures.decode_seconds
    seconds = {"decode": decode, "preprocess": max(time.perf_counter() - started - decode, 0.0)}
    originals = () if kept is None else kept.pictures
    return PreparedScene(
        pixels, keep, batch.transforms, names, mode, options, seconds, order, originals, kept
    )


def _mask(mask: SentFile | None, transform: ImageTransform, limits: Limits) -> NDArray[np.bool_]:
    """Which network pixels [H, W] a user's mask keeps: those whose centre falls on a bright mask
    pixel."""
    height, width = transform.original_size
    if mask is None:
        return np.ones(transform.network_size, bool)
    picture = ImageOps.exif_transpose(DecodedPictures([mask], limits)[0]).convert("L")
    if picture.size != (width, height):
        raise InvalidOption(
            f"The mask {mask.name} is {picture.width} x {picture.height} pixels; its picture is "
            f"{width} x {height}.",
            option="masks",
        )
    bright = np.asarray(picture) >= 128
    rows, columns = transform.network_size
    x = (
        ((np.arange(columns) + 0.5 - transform.offset[0]) / transform.scale[0])
        .clip(0, width - 1)
        .astype(int)
    )
    y = (
        ((np.arange(rows) + 0.5 - transform.offset[1]) / transform.scale[1])
        .clip(0, height - 1)
        .astype(int)
    )
    kept: NDArray[np.bool_] = bright[y[:, None], x[None]]
    return kept


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
        posed = sum(
            camera is not None and camera.extrinsic is not None for camera in options.cameras
        )
        if posed == 1:
            raise InvalidOption(
                "One extrinsic fixes no scale; give those of at least two pictures.",
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
