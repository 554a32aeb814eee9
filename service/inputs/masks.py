"""The masks that a client sends: which picture each belongs to, and which pixels it keeps."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from model.scene.preprocess import ImageTransform
from service.errors import InvalidOption
from service.inputs.body import SentFile
from service.inputs.pictures import decoded, opened
from service.result.document import WarningDocument
from service.result.names import comparable, comparable_as_files
from service.settings import Limits

BRIGHT = 128  # of 255

_BEFORE = ("mask_", "mask-", "mask.")
_BEHIND = ("_mask", "-mask", ".mask")
_HOW_TO_NAME = (
    "name each mask like its picture (a.jpg.png, a.png or a_mask.png for a.jpg), or send exactly "
    "one for every picture in the same order"
)

Bools = NDArray[np.bool_]


def match_masks(
    masks: Sequence[SentFile], pictures: Sequence[SentFile]
) -> tuple[list[SentFile | None], list[WarningDocument]]:
    """Each picture's mask: by name, in upper or lower case where nothing fits as it is written, or
    by order if no mask has a picture's name; then a warning says so.

    Raises InvalidOption if neither fits.
    """
    if not masks:
        return [None] * len(pictures), []
    forms = [_Names(pictures, form) for form in (comparable, comparable_as_files)]
    fits = [_first(names.fitting(mask.name) for names in forms) for mask in masks]
    if any(fits) and not all(len(found) > 1 for found in fits):
        return _by_name(masks, pictures, fits), []
    if len(masks) != len(pictures):
        raise InvalidOption(
            f"{len(masks)} masks were sent for {len(pictures)} pictures; {_HOW_TO_NAME}.",
            option="masks",
        )
    message = f"The masks were taken in the order sent, since names do not tell; {_HOW_TO_NAME}."
    return list(masks), [WarningDocument(code="masks-by-order", message=message)]


def _by_name(
    masks: Sequence[SentFile], pictures: Sequence[SentFile], fits: Sequence[Sequence[int]]
) -> list[SentFile | None]:
    found: list[SentFile | None] = [None] * len(pictures)
    for mask, indices in zip(masks, fits, strict=True):
        if len(indices) != 1:
            which = "no picture" if not indices else f"{len(indices)} pictures"
            raise InvalidOption(
                f"The name of the mask {mask.name} fits {which}; {_HOW_TO_NAME}.", option="masks"
            )
        (index,) = indices
        other = found[index]
        if other is not None:
            raise InvalidOption(
                f"The names of the masks {other.name} and {mask.name} both fit "
                f"{pictures[index].name}; {_HOW_TO_NAME}.",
                option="masks",
            )
        found[index] = mask
    return found


class _Names:
    """Finds the pictures that a mask's name fits."""

    def __init__(self, pictures: Sequence[SentFile], form: Callable[[str], str]) -> None:
        """`form` is how names are compared."""
        self._form = form
        self._paths = [PurePosixPath(form(picture.name)) for picture in pictures]
        self._found: dict[tuple[str, str], list[int]] = defaultdict(list)
        self._within: dict[tuple[str, str, str], list[int]] = defaultdict(list)  # and in a folder
        for index, path in enumerate(self._paths):
            for what, wanted in (("name", path.name), ("stem", path.stem)):
                self._found[what, wanted].append(index)
                for folder in set(path.parent.parts):
                    self._within[what, wanted, folder].append(index)

    def fitting(self, name: str) -> list[int]:
        """The pictures that it fits best: by the name itself, and among those by folder."""
        mask = PurePosixPath(self._form(name))
        plain = _without_affix(mask.stem)
        return _first(
            self._nearest(mask, what, wanted)
            for what, wanted in (  # from what says most to what says least
                ("name", mask.stem),
                ("name", mask.name),
                ("stem", mask.stem),
                ("name", plain),
                ("stem", plain),
            )
        )

    def _nearest(self, mask: PurePosixPath, what: str, wanted: str) -> list[int]:
        """Those of this name that have most folders in common with the mask, anywhere in their
        paths; among equals, from the innermost outward."""
        found = self._found.get((what, wanted), [])
        folders = [_without_affix(part) for part in mask.parent.parts]
        shared: Counter[int] = Counter()
        for folder in set(folders):
            shared.update(self._within.get((what, wanted, folder), ()))
        if not shared:
            return found
        most = max(shared.values())
        nearest = sorted(index for index, count in shared.items() if count == most)
        inner = [_inner(folders, self._paths[index].parent.parts) for index in nearest]
        deepest = max(inner)
        return [index for index, count in zip(nearest, inner, strict=True) if count == deepest]


def _first(found: Iterable[list[int]]) -> list[int]:
    """The first that is not empty."""
    return next((indices for indices in found if indices), [])


def _without_affix(stem: str) -> str:
    for affix in _BEFORE:
        stem = stem.removeprefix(affix)
    for affix in _BEHIND:
        stem = stem.removesuffix(affix)
    return stem


def _inner(one: Sequence[str], other: Sequence[str]) -> int:
    """How many folders two paths have in common, from the innermost outward."""
    count = 0
    for mine, theirs in zip(reversed(one), reversed(other), strict=False):
        if mine != theirs:
            break
        count += 1
    return count


def read_mask(mask: SentFile, transform: ImageTransform, limits: Limits) -> Bools:
    """Which network pixels [H, W] a mask keeps: those whose centre falls on a pixel that it keeps.

    Raises InvalidOption for a mask of another size than its picture, and what decoding raises.
    """
    height, width = transform.original_size
    image = opened(mask, 0, limits)
    palette = image.mode == "P"
    pixels = np.asarray(decoded(image, mask, 0, mask=True))
    if pixels.shape[:2] != (height, width):
        raise InvalidOption(
            f"The mask {mask.name} is {pixels.shape[1]} x {pixels.shape[0]} pixels, its upright "
            f"picture {width} x {height}; send a mask of that size.",
            option="masks",
        )
    rows, columns = transform.network_size
    (sx, sy), (ox, oy) = transform.scale, transform.offset
    x = ((np.arange(columns) + 0.5 - ox) / sx).clip(0, width - 1).astype(int)
    y = ((np.arange(rows) + 0.5 - oy) / sy).clip(0, height - 1).astype(int)
    kept: Bools = _kept(pixels, palette)[y[:, None], x[None]]
    return kept


def _kept(pixels: NDArray[np.uint8], palette: bool) -> Bools:
    """Which pixels of a mask, [h, w, 3 or 4], are kept.

    Where anything is transparent, alpha decides: it is a cut-out. Otherwise what is bright is kept;
    where nothing is bright, as in a mask of 0 and 1, and of a palette's colours, all but black.
    """
    colours, alpha = pixels[..., :3], pixels[..., 3:]
    if (alpha < 255).any():
        values = alpha[..., 0]
    else:
        values = colours.max(-1)
        if palette and (values != colours.min(-1)).any():
            return values > 0
    bright = values >= BRIGHT
    return bright if bright.any() else values > 0


def hides_all(mask: SentFile) -> WarningDocument:
    """What to say of a mask that keeps nothing."""
    return WarningDocument(
        code="mask-hides-all",
        message=f"The mask {mask.name} hides all of its picture, which gives no points. White keeps"
        " a pixel, black hides it; in a mask with transparency opaque keeps.",
    )
