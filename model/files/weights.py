"""Which file of a folder or repository holds the weights; its tensors, read one at a time."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from model.errors import CheckpointError

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")
INDEX = ".index.json"

# Where several files could be meant, the first of these is taken. Each is how a public repository
# of VGGT, or the library that wrote it, names its weights.
KNOWN_NAMES = (
    "model.safetensors",
    f"model.safetensors{INDEX}",
    "model.pt",
    "pytorch_model.bin",
    f"pytorch_model.bin{INDEX}",
    "vggt_1B_commercial.pt",
    "model_tracker_fixed_e20.pt",
)
# keys under which training code saves weights
_WRAPPERS = ("model", "state_dict", "model_state_dict")
# of DistributedDataParallel, Lightning, torch.compile
_PREFIXES = ("module.", "model.", "_orig_mod.")
_MAPPED_BYTES = 2**28


def choose(
    names: Iterable[str], place: str, separator: str, *, known_only: bool = False
) -> str | None:
    """The file of `names` that holds the weights: one with a known name, else the only one.

    An index of shards stands for its shards. Files in subfolders count if there are none at the
    top. None if there is none. Raises CheckpointError if there are several and none is known;
    `place` and `separator` make its example: "folder" and "/", or "owner/name" and ":".
    """
    names = sorted(names)
    for name in KNOWN_NAMES:
        if name in names:
            return name
    indices = [name for name in names if name.endswith(INDEX)]
    stems = tuple(name.removesuffix(INDEX).rpartition(".")[0] + "-" for name in indices)
    found = [name for name in names if name.endswith(SUFFIXES) and not name.startswith(stems)]
    found += indices
    found = [name for name in found if "/" not in name] or found
    if not found or known_only:
        return None
    if len(found) > 1:
        raise CheckpointError(
            f"{place} holds several weights files ({', '.join(found)}): "
            f"name the one you mean, for example {place}{separator}{found[0]}"
        )
    return found[0]


def none_in(place: str) -> CheckpointError:
    """The error for a folder or repository in which there are no weights."""
    return CheckpointError(
        f"{place} holds no weights: expected {', '.join(KNOWN_NAMES[:3])} "
        f"or a single file ending in {', '.join(SUFFIXES)}"
    )


def files_of(path: Path) -> list[Path]:
    """The files that hold the tensors: `path` itself, or the shards if it is an index.

    Whether the shards exist is not looked at. Raises CheckpointError for an unreadable index.
    """
    if not path.name.endswith(INDEX):
        return [path]
    return [path.parent / name for name in sorted(set(_weight_map(path).values()))]


def _weight_map(index: Path) -> dict[str, str]:
    """Shard of every tensor, by the index's `weight_map`."""
    try:
        found: Any = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
    except FileNotFoundError:
        raise CheckpointError(f"no checkpoint at {index}") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{index} is not a readable index of shards: expected JSON with a weight_map "
            f"({error!r})"
        ) from error
    if not isinstance(found, dict) or not found:
        raise CheckpointError(
            f"{index}: weight_map is {found!r}; expected a shard for every tensor"
        )
    for shard in found.values():
        if not isinstance(shard, str) or Path(shard).name != shard or not shard.endswith(SUFFIXES):
            raise CheckpointError(
                f"{index}: weight_map names {shard!r}; expected a weights file in the same folder"
            )
    return found


@dataclass(frozen=True)
class _Stored:
    """One tensor where it is stored: its file, a reader of the whole of it, and of its shape."""

    path: Path
    tensor: Callable[[], Tensor]
    shape: Callable[[], Sequence[int]]


class TensorSource:
    """Named tensors of a checkpoint, read one at a time; only a part of it is ever in memory.

    `path` is a `.safetensors` file, a state dict in `.pt`, `.pth` or `.bin`, or the index of a
    checkpoint in shards. A state dict may lie under "model" or "state_dict", and its names may
    start with "module.": `names` are without. Pickled code is never run.
    """

    def __init__(self, path: Path) -> None:
        """Raises CheckpointError if a file is missing, damaged, or holds anything but tensors."""
        self.path = path
        self._new_name: Callable[[str], str] = lambda name: name
        self._open()

    def rename(self, new_name: Callable[[str], str]) -> None:
        """From now on a tensor that the files call `name` is called `new_name(name)`."""
        self._new_name = new_name
        self._open()

    @property
    def names(self) -> list[str]:
        """Names of all tensors."""
        return list(self._stored)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of one tensor, without reading it."""
        return tuple(self._stored[name].shape())

    def read(self, name: str) -> Tensor:
        """A float32 copy of one tensor.

        Raises CheckpointError if it is not made of floating-point numbers, or one of them is NaN or
        infinite.
        """
        if self._bytes_read > _MAPPED_BYTES:
            self._open()  # pages that were read stay resident as long as the file is mapped
        stored = self._stored[name]
        tensor = stored.tensor()
        if tensor.layout is not torch.strided or tensor.is_meta or not tensor.is_floating_point():
            raise CheckpointError(
                f"{stored.path}: {name} is stored as {tensor.dtype}, {tensor.layout}; "
                "expected a plain tensor of floating-point numbers"
            )
        self._bytes_read += tensor.nbytes
        tensor = tensor.to(torch.float32, copy=True)
        if tensor.numel() and not all(bound.isfinite() for bound in tensor.aminmax()):
            raise CheckpointError(
                f"{stored.path}: {name} holds {int((~tensor.isfinite()).sum())} of "
                f"{tensor.numel()} values "
                "that are NaN or infinite: the checkpoint is damaged"
            )
        return tensor

    def _open(self) -> None:
        """Maps the files; what was mapped before is given back."""
        self._bytes_read = 0
        stored: dict[str, _Stored] = {}
        for path in files_of(self.path):
            stored.update(_map(path))
        if self.path.name.endswith(INDEX):
            for name, shard in _weight_map(self.path).items():
                if name not in stored:
                    raise CheckpointError(f"{self.path} lists {name}, but {shard} does not hold it")
        self._stored = {
            self._new_name(name): tensor for name, tensor in _without_prefixes(stored).items()
        }


def _without_prefixes(named: Mapping[str, _Stored]) -> dict[str, _Stored]:
    """The same under shorter names, where all names start with a training library's prefix."""
    named = dict(named)

    def shared() -> str | None:
        return next((p for p in _PREFIXES if all(name.startswith(p) for name in named)), None)

    while named and (prefix := shared()):
        named = {name.removeprefix(prefix): tensor for name, tensor in named.items()}
    return named


def _map(path: Path) -> dict[str, _Stored]:
    """The tensors of one mapped file by their names in it. Raises CheckpointError."""
    try:
        return _map_safetensors(path) if path.suffix == ".safetensors" else _map_pickled(path)
    except CheckpointError:
        raise
    except FileNotFoundError as error:
        raise CheckpointError(f"no checkpoint at {path}") from error
    except (SafetensorError, OSError, RuntimeError, EOFError, ValueError) as error:
        raise CheckpointError(f"{path} is not a readable checkpoint: {error}") from error
    except Exception as error:  # torch.load reports a refused pickle as UnpicklingError
        raise CheckpointError(
            f"{path} was refused: only plain tensors are loaded ({error})"
        ) from error


def _map_safetensors(path: Path) -> dict[str, _Stored]:
    reader = safe_open(path, framework="pt")

    def stored(name: str) -> _Stored:
        return _Stored(
            path, lambda: reader.get_tensor(name), lambda: reader.get_slice(name).get_shape()
        )

    return {name: stored(name) for name in reader.keys()}  # noqa: SIM118 - not a dictionary


def _map_pickled(path: Path) -> dict[str, _Stored]:
    def stored(tensor: Tensor) -> _Stored:
        return _Stored(path, lambda: tensor, lambda: tensor.shape)

    loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    for candidate in (loaded, *(loaded.get(key) for key in _WRAPPERS if isinstance(loaded, dict))):
        if (
            isinstance(candidate, dict)
            and candidate
            and all(isinstance(v, Tensor) for v in candidate.values())
        ):
            return {name: stored(tensor) for name, tensor in candidate.items()}
    raise CheckpointError(
        f"{path} does not hold a plain dictionary of tensors, by itself or under one of "
        f"{', '.join(_WRAPPERS)}"
    )
