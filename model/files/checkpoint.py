"""Float checkpoints in a public layout: local, of a model hub, or the bundled demo model."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from model import families
from model.errors import CheckpointError
from model.files.weights import TensorSource, choose, none_in
from model.network.config import NetworkConfig
from model.network.network import Network

DEMO_CHECKPOINT = Path(__file__).parents[1] / "demo"
HUB_FORMS = (
    "a hub repository such as facebook/VGGT-1B (owner/name, owner/name@revision, owner/name:file)"
)
_CONFIG = "config.json"


def resolve_checkpoint(location: str | Path, *, newest: bool = False) -> tuple[Path, NetworkConfig]:
    """Weights file, or index of its shards, and network shape of a checkpoint.

    `location` is "demo" (bundled), a weights file, a folder with one, or a hub repository as
    `owner/name`, with `@revision` and `:file` where they are needed. The names of the tensors and
    `config.json` beside them tell family and shape; heads that have no tensors are left out.
    `newest` asks the hub although the files are cached. Raises CheckpointError.
    """
    source, config = open_checkpoint(location, newest=newest)
    return source.path, config


def open_checkpoint(
    location: str | Path, *, newest: bool = False
) -> tuple[TensorSource, NetworkConfig]:
    """Tensors, by the network's names, and network shape of a checkpoint; see
    `resolve_checkpoint`."""
    source = TensorSource(locate(location, newest=newest))
    config = _recognised(source, str(location))
    source.rename(partial(families.of(config).tensor_name, config))
    return source, config


def locate(location: str | Path, *, newest: bool = False) -> Path:
    """Weights file, or index of its shards, of a checkpoint; see `resolve_checkpoint`."""
    path = DEMO_CHECKPOINT if str(location) == "demo" else Path(location).expanduser()
    if os.path.isdir(path):
        files = [entry.name for entry in path.iterdir() if entry.is_file()]
        name = choose(files, str(path), "/")
        if name is None:
            raise none_in(str(path))
        return path / name
    if os.path.isfile(path):
        return path

    from model.files.hub import HubLocation, fetch  # the hub's client takes its time to import

    repository = HubLocation.parse(str(location))
    if repository is None:
        raise CheckpointError(
            f"no checkpoint at {str(location)!r}: expected 'demo', a weights file, a folder, or "
            f"{HUB_FORMS}"
        )
    return fetch(repository, newest=newest)


def _recognised(source: TensorSource, location: str) -> NetworkConfig:
    """The network that the tensors of a location, and `config.json` beside them if there is one,
    are of."""
    path = source.path.parent / _CONFIG
    loaded_as = f"{location}/{source.path.name}"  # either may tell what tensors and shapes do not
    try:
        values = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
        config = families.recognise(values, {n: source.shape(n) for n in source.names}, loaded_as)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} is not a network configuration: {error}") from error
    if config is None:
        raise CheckpointError(
            f"{source.path} holds no network that is known here ({', '.join(families.FAMILIES)}): "
            f"its tensors have other names (first: {min(source.names, default='none')})"
        )
    return config


def build_empty(config: NetworkConfig) -> Network:
    """The network with parameters on the meta device, without storage, ready to have real ones
    assigned."""
    with torch.device("meta"):
        return families.of(config).build(config)


def match(net: Network, source: TensorSource) -> None:
    """Raises CheckpointError unless the file has every tensor of `net` in the right shape.

    Tensors that the family ignores, such as those of heads left out, may be there; others may not.
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
            raise CheckpointError(
                f"{source.path}: {name} has shape {source.shape(name)}; the network needs {shape}"
            )


def load_checkpoint(
    location: str | Path, heads: Sequence[str] | None = None, device: str | torch.device = "cpu"
) -> Network:
    """A float32 network in evaluation mode from a checkpoint; see `resolve_checkpoint` for
    locations.

    `heads` (names that the network's configuration has, such as "camera" and "depth") leaves all
    others out; None keeps every head, and one that the network lacks raises ValueError. Each tensor
    is read once, straight into its place. Raises CheckpointError, also for a tensor that holds NaN
    or infinity.
    """
    source, config = open_checkpoint(location)
    if heads is not None:
        config = config.with_heads(tuple(heads))
    net = build_empty(config)
    match(net, source)
    for name in [name for name, _ in net.named_parameters()]:
        assign(net, name, source.read(name), device)
    return net.to(device).eval()


def assign(net: nn.Module, name: str, value: Tensor, device: str | torch.device) -> None:
    """Replaces one parameter by `value` in float32 on `device`."""
    owner, _, leaf = name.rpartition(".")
    parameter = torch.nn.Parameter(
        value.to(device=device, dtype=torch.float32), requires_grad=False
    )
    net.get_submodule(owner).register_parameter(leaf, parameter)
