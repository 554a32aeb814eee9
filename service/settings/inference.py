"""Settings of the networks that are served, and of what runs them: here, and in replicas."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from service.settings.setting import setting

_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"


@dataclass(frozen=True, kw_only=True)
class InferenceSettings:
    """What runs the network, and on what."""

    artifact: Path = setting("folder of the quantised model, made by `quantvggt quantize`")
    engine: Literal["local", "ray"] = setting(
        "what runs the network: this process, or replicas that Ray Serve keeps on GPUs and "
        "machines",
        "local",
    )
    device: str = setting("torch device that runs the network, for example cpu or cuda:0", "cpu")
    threads: int | None = setting(
        "threads that run the network on a CPU; without it as many as the cores it may use",
        None,
        ge=1,
    )
    activations: Literal["auto", "4", "8"] = setting(
        "bits of activations of layers that the artifact has in 4: auto takes 8 where, as "
        "measured on this machine, they take at most 1.05 times the time",
        "auto",
    )
    memory_budget: int | None = setting(
        "bytes one pass may take beyond the loaded model; without it most of what is free",
        None,
        ge=1,
    )
    pass_frames: int | None = setting(
        "most frames in one pass; longer scenes are chunked; without it 123, and chunks of 96",
        None,
        ge=2,
    )
    attention_keys: int = setting(
        "tokens that attention over a scene looks at, about, when a request does not say; 0 for "
        "all",
        33_312,
        ge=0,
    )
    require_native_kernels: bool = setting("refuse to start on the slow reference kernels", False)
    require_commercial: bool = setting(
        "refuse weights whose licence is not known to allow commercial use", False
    )


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """The networks that a request can choose from, where there are several."""

    model: tuple[str, ...] = setting(
        "instead of artifact: name=folder of a model that requests may ask for by that name; give "
        "it several times (in a variable: with commas between them), the first is used where a "
        "request names none",
        (),
    )
    model_memory: int | None = setting(
        "bytes that the models may take while they are loaded; the one unused for longest makes "
        "room for another; without it all stay loaded",
        None,
        ge=1,
    )


@dataclass(frozen=True, kw_only=True)
class ClusterSettings:
    """The replicas of the network, with ``engine`` "ray"."""

    replicas: int = setting(
        "with --engine ray, most replicas of the network; each has its own GPU",
        1,
        ge=1,
    )
    min_replicas: int | None = setting(
        "with --engine ray, replicas that stay when little is to do; without it all",
        None,
        ge=1,
    )
    replica_cpus: int | None = setting(
        "processor cores of a replica; without it the replicas share this machine's",
        None,
        ge=1,
    )
    ray_address: str | None = setting(
        "host:port of a Ray cluster that this machine is part of; without it one of the service's "
        "own",
        None,
    )


def folders(models: Iterable[str]) -> dict[str, Path]:
    """The folders of the setting `model` by the models' names; a folder alone is named after
    itself. Raises ValueError, in words."""
    found: dict[str, Path] = {}
    for text in models:
        name, sign, folder = text.partition("=")
        if not sign or "/" in name:  # a folder's name may hold the sign, too
            name, folder = Path(text).resolve().name, text
        if not folder or not re.fullmatch(_NAME, name):
            raise ValueError(
                f"{text!r} is not name=folder with a name of up to 64 letters, digits, dots, "
                "underscores and hyphens"
            )
        if name in found:
            raise ValueError(f"two models are called {name}")
        found[name] = Path(folder)
    return found
