"""Float checkpoints in the public VGGT layout: a local file, a folder, a hub repository, or the bundled demo model."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from model import families
from model.errors import CheckpointError
from model.network.config import NetworkConfig
from model.network.network import Network

DEMO_CHECKPOINT = Path(__file__).parents[1] / "demo"
_HUB_FILES = ("model.safetensors", "model.pt")
_CONFIG = "config.json"
_MAPPED_BYTES = 2**28


class TensorSource:
    """Named tensors of a file, read one at a time; never more than a part of the file is in memory besides them.

    A `.safetensors` file or a plain state dict in `.pt` / `.pth` / `.bin`; pickled code is never run.
    """

    _tensor: Callable[[str], Tensor]
    _shape: Callable[[str], Sequence[int]]

    def __init__(self, path: Path) -> None:
        """Raises CheckpointError if the file is missing, damaged, or holds anything but tensors."""
        self.path = path
        try:
            self._open()
        except CheckpointError:
            raise
        except FileNotFoundError as error:
            raise CheckpointError(f"no checkpoint at {path}") from error
        except (SafetensorError, OSError, RuntimeError, EOFError, ValueError) as error:
            raise CheckpointError(f"{path} is not a readable checkpoint: {error}") from error
        except Exception as error:  # torch.load reports a refused pickle as UnpicklingError
            raise CheckpointError(f"{path} was refused: only plain tensors are loaded ({error})") from error

    def _open(self) -> None:
        """Maps the file; what was mapped before is given back."""
        self._bytes_read = 0
        if self.path.suffix == ".safetensors":
            reader = safe_open(self.path, framework="pt")
            self.names = list(reader.keys())
            self._tensor, self._shape = reader.get_tensor, lambda name: reader.get_slice(name).get_shape()
            return
        loaded = torch.load(self.path, map_location="cpu", weights_only=True, mmap=True)
        if not isinstance(loaded, dict) or not all(isinstance(value, Tensor) for value in loaded.values()):
            raise CheckpointError(f"{self.path} does not hold a plain dictionary of tensors")
        self.names = list(loaded)
        self._tensor, self._shape = loaded.__getitem__, lambda name: loaded[name].shape

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of one tensor, without reading it."""
        return tuple(self._shape(name))

    def read(self, name: str) -> Tensor:
        """A copy of one tensor, in the dtype it is stored in."""
        if self._bytes_read > _MAPPED_BYTES:
            self._open()  # pages that were read stay resident as long as the file is mapped
        tensor = self._tensor(name).clone()
        self._bytes_read += tensor.nbytes
        return tensor


def resolve_checkpoint(location: str | Path) -> tuple[Path, NetworkConfig]:
    """Weights file and network shape of a checkpoint.

    `location` is "demo" (bundled), a folder with `model.safetensors` (and `config.json` unless it is VGGT-1B), a
    weights file (with `config.json` beside it, likewise), or a hub repository id such as "facebook/VGGT-1B".
    """
    path = locate(location)
    return path, _recognised(path)


def locate(location: str | Path) -> Path:
    """Weights file of a checkpoint; see `resolve_checkpoint`."""
    path = DEMO_CHECKPOINT if str(location) == "demo" else Path(location).expanduser()
    if path.is_dir():
        found = [path / name for name in _HUB_FILES if (path / name).is_file()]
        if not found:
            raise CheckpointError(f"{path} holds none of {', '.join(_HUB_FILES)}")
        path = found[0]
    elif not path.is_file():
        path = _download(str(location))
    return path


def _recognised(weights: Path) -> NetworkConfig:
    """The network that the weights, and `config.json` beside them if there is one, are of."""
    path, names = weights.parent / _CONFIG, TensorSource(weights).names
    try:
        values = json.loads(path.read_text()) if path.is_file() else None
        config = families.recognise(values, names)
    except (ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} is not a network configuration: {error}") from error
    if config is None:
        raise CheckpointError(
            f"{weights} is no checkpoint of a network that is known here ({', '.join(families.FAMILIES)}): "
            f"its tensors have other names, such as {min(names, default='none')}"
        )
    return config


def _download(repository: str) -> Path:
    if repository.count("/") != 1 or repository.startswith((".", "/", "~")):
        raise CheckpointError(
            f"no checkpoint at {repository!r}: neither a file, a folder, 'demo', nor a hub repository id (owner/name)"
        )
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

    def fetch(name: str) -> Path | None:
        try:
            return Path(hf_hub_download(repository, name))
        except EntryNotFoundError:
            return None
        except (HfHubHTTPError, OSError) as error:
            raise CheckpointError(
                f"{repository} cannot be downloaded: {error}; download the weights yourself and give their path"
            ) from error

    fetch(_CONFIG)  # lands beside the weights
    for name in _HUB_FILES:
        weights = fetch(name)
        if weights is not None:
            return weights
    raise CheckpointError(f"{repository} has none of {', '.join(_HUB_FILES)}")


def build_empty(config: NetworkConfig) -> Network:
    """The network with parameters on the meta device, without storage, ready to have real ones assigned."""
    with torch.device("meta"):
        return families.of(config).build(config)


def match(net: Network, source: TensorSource) -> None:
    """Raises CheckpointError unless the file has every tensor of `net` in the right shape.

    Tensors that the network's family ignores, such as heads that were left out, may be there; others may not.
    """
    wanted = {name: tuple(parameter.shape) for name, parameter in net.named_parameters()}
    ignored = families.of(net.config).ignored(net.config)
    available = [name for name in source.names if not name.startswith(ignored)]
    missing = sorted(set(wanted) - set(available))
    surplus = sorted(set(available) - set(wanted))
    if missing or surplus:
        raise CheckpointError(
            f"{source.path} does not fit the network: "
            + "; ".join(
                f"{len(names)} {kind} (first: {names[0]})"
                for kind, names in (("missing", missing), ("unknown", surplus))
                if names
            )
        )
    for name, shape in wanted.items():
        if source.shape(name) != shape:
            raise CheckpointError(f"{source.path}: {name} has shape {source.shape(name)}; the network needs {shape}")


def load_checkpoint(
    location: str | Path, heads: Sequence[str] | None = None, device: str | torch.device = "cpu"
) -> Network:
    """A float32 network in evaluation mode from a checkpoint; see `resolve_checkpoint` for locations.

    `heads` (of "camera", "depth", "point", "track") leaves all others out; None keeps every head. Each tensor is read
    once, straight into its place. Raises CheckpointError.
    """
    path, config = resolve_checkpoint(location)
    if heads is not None:
        config = config.with_heads(tuple(heads))
    source = TensorSource(path)
    net = build_empty(config)
    match(net, source)
    for name in [name for name, _ in net.named_parameters()]:
        assign(net, name, source.read(name), device)
    return net.to(device).eval()


def assign(net: nn.Module, name: str, value: Tensor, device: str | torch.device) -> None:
    """Replaces one parameter by `value` in float32 on `device`."""
    owner, _, leaf = name.rpartition(".")
    parameter = torch.nn.Parameter(value.to(device=device, dtype=torch.float32), requires_grad=False)
    net.get_submodule(owner).register_parameter(leaf, parameter)
