"""A scene that is given part after part, since the whole of it may not fit into memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from model.scene.chunking import concatenated
from model.scene.reconstruction import Reconstruction

Change = Callable[[Reconstruction, int], Reconstruction]
"""Changes a part of a scene that begins with the frame of this number."""


@dataclass(frozen=True)
class SceneParts:
    """`read` gives the parts in the order of their frames, in one world, as often as it is
    asked."""

    read: Callable[[], Iterator[Reconstruction]]

    @classmethod
    def of(cls, scene: Reconstruction) -> SceneParts:
        """A scene that is in memory as it is."""
        return cls(lambda: iter([scene]))

    def __iter__(self) -> Iterator[tuple[int, Reconstruction]]:
        """Each part with the number of its first frame."""
        first = 0
        for part in self.read():
            yield first, part
            first += len(part.transforms)

    def changed(self, change: Change) -> SceneParts:
        """The scene with a change of every part, made when the part is read."""
        return SceneParts(lambda: (change(part, first) for first, part in self))

    def whole(self) -> Reconstruction:
        """All of it in memory."""
        parts = [part for _, part in self]
        return parts[0] if len(parts) == 1 else concatenated(parts)

    def extrinsics(self) -> Tensor:
        """World-to-camera of all frames [S, 3, 4]."""
        return torch.cat([part.extrinsics for _, part in self])

    def frame(self, index: int) -> Reconstruction:
        """One frame. Raises IndexError."""
        for first, part in self:
            if index < first + len(part.transforms):
                return part.frame(index - first)
        raise IndexError(index)
