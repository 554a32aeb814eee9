"""How those who work on a job tell how far it is, and what they have found by now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

_DIGITS = 7


@dataclass(frozen=True)
class FoundChunk:
    """Cameras of the frames that are new in a chunk of a long scene, before the scene is done.

    They lie in the first chunk's world and scale; loops that are closed later, and what is known of
    the scene, still move them. Extrinsics are world-to-camera [N, 3, 4], intrinsics in pixels of
    the original pictures [N, 3, 3], as nested lists; sizes are (height, width) of those.
    """

    number: int
    of: int
    first: int
    extrinsics: list[Any]
    intrinsics: list[Any]
    sizes: list[tuple[int, int]]
    points: int

    def document(self) -> dict[str, Any]:
        """Plain data for JSON."""
        cameras = zip(_rounded(self.extrinsics), _rounded(self.intrinsics), self.sizes, strict=True)
        return {
            "chunk": self.number,
            "chunks": self.of,
            "points": self.points,
            "pictures": [
                {
                    "index": self.first + row,
                    "original_size": {"height": height, "width": width},
                    "extrinsic": extrinsic,
                    "intrinsic": intrinsic,
                }
                for row, (extrinsic, intrinsic, (height, width)) in enumerate(cameras)
            ],
        }


class Report(Protocol):
    """Called with a stage and the share of the work that is done, and with a chunk when one is;
    raises to stop the work."""

    def __call__(self, stage: str, share: float, chunk: FoundChunk | None = None, /) -> None: ...


def _rounded(values: Any) -> Any:
    if isinstance(values, list):
        return [_rounded(value) for value in values]
    return float(f"{values:.{_DIGITS}g}")
