"""What a family of networks is to the rest of the project: one frozen record."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from model.network.config import NetworkConfig
from model.network.keys import KeyPattern, pattern
from model.network.network import Network, Stage
from model.network.prediction import Prediction

Shapes = Mapping[str, tuple[int, ...]]
"""The tensors of a checkpoint by name."""
Kept = MutableMapping[str, Tensor]
"""What later stages read of earlier ones, for one sample on its way through a network."""


@dataclass(frozen=True)
class Geometry:
    """What a prediction says of one scene of S frames of H x W pixels; None where a head was left
    out.

    Cameras are world-to-camera with OpenCV axes; the world is the first frame's camera as the
    network predicts it; lengths are in the family's `scale`.
    """

    extrinsics: Tensor | None  # [S, 3, 4]
    intrinsics: Tensor | None  # [S, 3, 3], pixels
    depth: Tensor | None  # [S, H, W], along the camera's z axis
    confidence: Tensor | None  # [S, H, W], at least 1
    points: Tensor | None  # [S, H, W, 3] in the world, from a head of their own


@dataclass(frozen=True)
class Grid:
    """The pixels that a network wants: the longer side, and the patch that both sides are multiples
    of; `public` is how its public code gets there, see `model.scene.preprocess`."""

    longer_side: int
    patch_size: int
    public: str = "crop"


@dataclass(frozen=True)
class Part:
    """Linear layers that are quantised alike: a pattern of their full names, and the usual
    scheme."""

    layers: re.Pattern[str]
    scheme: str


@dataclass(frozen=True)
class Licence:
    """What public weights may be used under, whether that allows commercial use, None where it is
    not known, and where that is said."""

    name: str | None
    commercial: bool | None
    source: str


class Stages(ABC):
    """A network as a row of stages, so that it can be filled and quantised one stage at a time.

    Between stages a sample is one tensor of tokens, for a batch of one. `images` are a sample's
    frames `[S, 3, H, W]` in [0, 1]; `kept` begins empty. A sample goes through all stages in their
    order.
    """

    row: tuple[Stage, ...]
    deep: tuple[Stage, ...]  # those whose inputs tell an unusual sample

    @abstractmethod
    def shared(self) -> Sequence[str]:
        """Names of the parameters that are read between stages and belong to none."""

    @abstractmethod
    def begin(self, images: Tensor) -> Tensor:
        """What the first stage takes."""

    @abstractmethod
    def enter(self, stage: Stage, tokens: Tensor, images: Tensor, kept: Kept) -> Tensor:
        """What `stage` takes, from the tokens that the stage before it gave."""

    @abstractmethod
    def run(self, stage: Stage, module: nn.Module, tokens: Tensor, images: Tensor) -> Tensor:
        """The tokens that `module`, which stands for that of `stage`, gives."""

    @abstractmethod
    def leave(self, stage: Stage, tokens: Tensor, images: Tensor, kept: Kept) -> None:
        """Keeps what a later stage reads of the tokens that `stage` gave."""

    @abstractmethod
    def features(self, kept: Kept) -> Tensor:
        """What the last blocks have made of a sample: `[S, P, D]`, special tokens first."""


@dataclass(frozen=True)
class Family:
    """Everything that the rest of the project knows of a family. Configurations are its own
    class."""

    name: str
    """As in manifests."""
    config: type[NetworkConfig]
    presets: Mapping[str, NetworkConfig]
    """Shapes with a name."""
    build: Callable[[Any], Network]
    """A network of a configuration, with random weights."""
    recognise: Callable[[Mapping[str, Any] | None, Shapes, str], NetworkConfig | None]
    """The configuration of a public checkpoint, from its `config.json`, if it has one, its tensors,
    and what it is loaded as; None if it is of another family. Raises ValueError or TypeError if it
    is broken."""
    tensor_name: Callable[[Any, str], str]
    """The network's name of a tensor of the checkpoint."""
    ignored: Callable[[Any], tuple[str, ...]]
    """Beginnings of names of tensors that a checkpoint may hold and a configuration has no use
    for."""
    heads: tuple[str, ...]
    """Heads that a member may have."""
    heads_share: float
    """Of the time of a pass, about: what its heads take."""
    special_tokens: Callable[[Any], int]
    """Tokens of a frame that stand before its patches."""
    least_tracked_side: Callable[[Any], int]
    """Pixels that the shorter side of a frame needs so that points can be followed, with a track
    head."""
    stages: Callable[[Any], Stages]
    """The row of stages of a network."""
    parts: Mapping[str, Part]
    """What is quantised, main part first."""
    grid: Callable[[Any], Grid]
    """What pictures are brought onto."""
    decode: Callable[[Any, Prediction, tuple[int, int]], Geometry]
    """What a prediction for one scene, without its batch axis, says for frames of (height,
    width)."""
    scale: Callable[[Any], Literal["arbitrary", "metre"]]
    """Unit of the lengths that a network predicts."""
    licences: Mapping[str, Licence]
    """Of public weights, by what they are loaded as."""
    takes_cameras: Callable[[Any], bool] = lambda config: False
    """Whether a network's `forward` takes known `cameras`: extrinsics `[B, S, 4, 4]`,
    world-to-camera, and intrinsics `[B, S, 3, 3]` in pixels of the frames."""
    single_pictures: Callable[[Any], bool] = lambda config: False
    """Whether a network takes pictures one by one. Its cameras then have the focal length of a
    usual lens, which it does not predict; depth in metres is in proportion to the true one."""
    in_metres: Callable[[Geometry, Prediction], Geometry] | None = None
    """Brings a scene of many pictures to metres, and its sky far away, by what the family's metric
    network for single pictures predicts for the same frames, without its batch axis; None in a
    family without such a network. Raises ValueError where the two have nothing to compare."""

    def keys(
        self, config: NetworkConfig, frames: int, height: int, width: int, budget: int | None
    ) -> KeyPattern:
        """What a network of `config` looks at in a scene of frames of height x width pixels, where
        `attention_keys` of its `forward` is `budget`. Raises ValueError for a budget below 1."""
        patch = self.grid(config).patch_size
        grid = (height // patch, width // patch)
        return pattern(frames, grid, self.special_tokens(config), budget)

    def part_of(self, layer: str) -> str | None:
        """The part that a linear layer belongs to by its full name; None: it is never quantised."""
        return next(
            (name for name, part in self.parts.items() if part.layers.fullmatch(layer)), None
        )
