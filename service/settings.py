"""The service's settings: flags first, then ``QUANTVGGT_…`` environment variables, then the
defaults here.

Importing this costs next to nothing: the command line reads names, defaults and descriptions from
it for its help. Only `load_settings` brings in what checks a value.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib.metadata
import importlib.util
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_type_hints

if TYPE_CHECKING:
    from sqlalchemy import URL

PREFIX = "QUANTVGGT_"
OLD_PREFIX = "VGGT_"  # read for one release more
NOT_SETTINGS = ("QUANTVGGT_API_KEY", "QUANTVGGT_KERNELS", "QUANTVGGT_KERNEL_CACHE")
"""Variables with the same prefix that others read."""
LOOPBACK = "127.0.0.1"


_SERVICE_LINK = re.compile(
    r"\w+_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)

_log = logging.getLogger("service")


class SettingsError(ValueError):
    """A flag or environment variable is unknown, missing or out of range. One sentence, naming key
    and value."""


def _setting(
    description: str, default: Any = dataclasses.MISSING, *, repr: bool = True, **bounds: float
) -> Any:
    """One setting; pydantic knows the bounds by name: ge (at least), gt (above), le (at most)."""
    return dataclasses.field(
        default=default, repr=repr, metadata={"description": description, **bounds}
    )


@dataclass(frozen=True, kw_only=True)
class InferenceSettings:
    """What runs the network, and on what."""

    artifact: Path = _setting("folder of the quantised model, made by `quantvggt quantize`")
    engine: Literal["local", "ray"] = _setting(
        "what runs the network: this process, or replicas that Ray Serve keeps on GPUs and "
        "machines",
        "local",
    )
    device: str = _setting("torch device that runs the network, for example cpu or cuda:0", "cpu")
    threads: int | None = _setting(
        "threads that run the network on a CPU; without it as many as the cores it may use",
        None,
        ge=1,
    )
    activations: Literal["auto", "4", "8"] = _setting(
        "bits of activations of layers that the artifact has in 4: auto takes 8 where, as "
        "measured on this machine, they take at most 1.05 times the time",
        "auto",
    )
    memory_budget: int | None = _setting(
        "bytes one pass may take beyond the loaded model; without it most of what is free",
        None,
        ge=1,
    )
    pass_frames: int | None = _setting(
        "most frames in one pass; longer scenes are chunked; without it 123, and chunks of 96",
        None,
        ge=2,
    )
    attention_keys: int = _setting(
        "tokens that attention over a scene looks at, about, when a request does not say; 0 for "
        "all",
        33_312,
        ge=0,
    )
    require_native_kernels: bool = _setting("refuse to start on the slow reference kernels", False)
    require_commercial: bool = _setting(
        "refuse weights whose licence is not known to allow commercial use", False
    )


@dataclass(frozen=True, kw_only=True)
class ClusterSettings:
    """The replicas of the network, with ``engine`` "ray"."""

    replicas: int = _setting(
        "with --engine ray, most replicas of the network; each has its own GPU",
        1,
        ge=1,
    )
    min_replicas: int | None = _setting(
        "with --engine ray, replicas that stay when little is to do; without it all",
        None,
        ge=1,
    )
    replica_cpus: int | None = _setting(
        "processor cores of a replica; without it the replicas share this machine's",
        None,
        ge=1,
    )
    ray_address: str | None = _setting(
        "host:port of a Ray cluster that this machine is part of; without it one of the service's "
        "own",
        None,
    )


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """Where and how the service answers."""

    host: str = _setting("address to listen on", LOOPBACK)
    port: int = _setting(
        "port to listen on; 0 picks a free one and prints it",
        8000,
        ge=0,
        le=65535,
    )
    header_timeout: float = _setting("seconds a request's head may take to arrive", 10.0, gt=0)
    max_connections: int = _setting(
        "connections at the same time; on a few more only health is answered", 512, ge=1
    )
    heartbeat: float = _setting("seconds between heartbeats on an idle event stream", 15.0, gt=0)
    shutdown_timeout: int = _setting(
        "seconds that running requests get to finish at shutdown",
        30,
        ge=0,
    )
    log_level: Literal["debug", "info", "warning", "error"] = _setting("least level logged", "info")
    log_format: Literal["text", "json"] = _setting("how log lines are written", "text")


@dataclass(frozen=True, kw_only=True)
class AccessSettings:
    """Who may use the service, and what it fetches for them."""

    api_keys: Path | None = _setting(
        "file of hashed API keys, made by `quantvggt key`; without it everybody may use it",
        None,
    )
    first_key: Path | None = _setting(
        "where to write a first API key, if api_keys names a file that is not there yet",
        None,
    )
    shared_gallery: bool = _setting(
        "without API keys everybody sees, names and removes everybody's results; else each browser "
        "has a list of its own",
        False,
    )
    allowed_hosts: str | None = _setting(
        "names that requests may call the service by, with commas between them, * for any; without "
        "it this machine's own names if it listens on this machine only, else any",
        None,
    )
    cors_origin: str | None = _setting(
        "other sites whose pages may use the service, as https://site.example, with commas between "
        "them; without it none",
        None,
    )
    fetch_urls: bool = _setting(
        "fetch pictures that a request names by URL, from public https servers",
        False,
    )
    fetch_hosts: str | None = _setting(
        "fetch from these hosts only, internal ones too: host, host:port or http://host:port, with "
        "commas between them",
        None,
    )
    fetch_timeout: float = _setting(
        "seconds a URL's server may take to be reached, to answer, and between two pieces",
        10.0,
        gt=0,
    )

    webhook_secret: Path | None = _setting(
        "file with the secret that callbacks (`callback_url`) are signed with; without it none are "
        "made",
        None,
    )

    @property
    def cors_origins(self) -> list[str]:
        """The sites of `cors_origin`."""
        origins = (origin.strip().rstrip("/") for origin in (self.cors_origin or "").split(","))
        return [origin.lower() for origin in origins if origin]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one request may hold, and how its pictures are prepared."""

    mode: Literal["fit", "crop", "pad", "public"] = _setting(
        "how pictures are brought to the network's size when a request does not say",
        "fit",
    )
    max_images: int = _setting("most pictures in one request", 2000, ge=1)
    max_image_bytes: int = _setting("most bytes of one picture file", 32 * 2**20, ge=1)
    max_total_bytes: int = _setting("most bytes of one request body", 8 * 2**30, ge=1)
    max_pixels: int = _setting(
        "most pixels of one picture, checked before decoding",
        50_000_000,
        ge=1,
    )
    max_total_pixels: int = _setting(
        "most pixels of all pictures of one request",
        24_000_000_000,
        ge=1,
    )
    max_unpacked_bytes: int = _setting(
        "most bytes of the pictures of one archive or video once unpacked",
        8 * 2**30,
        ge=1,
    )
    upload_timeout: float = _setting(
        "seconds a request body, with what its URLs name, may take to arrive",
        900.0,
        gt=0,
    )
    video_timeout: float = _setting("seconds that reading a video may take", 900.0, gt=0)
    export_memory: int = _setting(
        "bytes of memory that making files of results may take, all together; one is made in any "
        "case, and the next ones wait",
        2**30,
        ge=1,
    )


@dataclass(frozen=True, kw_only=True)
class RefinementSettings:
    """How far cameras and depth are refined on the original pixels, and what that may take."""

    refine: Literal["off", "cameras", "dense"] = _setting(
        "what is refined on the original pixels when a request does not say: nothing, cameras, or "
        "cameras and dense depth; needs the extra `refinement`",
        "off",
    )
    refine_seconds: float = _setting(
        "most seconds that the refinement of one scene may take", 600.0, gt=0
    )
    refine_memory: int = _setting(
        "most bytes that the process which refines a scene may take", 2 * 2**30, ge=2**28
    )
    refine_pixels: int = _setting(
        "longer side of dense depth in pixels when a request does not say",
        1024,
        ge=256,
        le=4096,
    )


@dataclass(frozen=True, kw_only=True)
class QueueSettings:
    """How much may wait, and how long a job may take."""

    queue_limit: int = _setting(
        "requests that may wait while another one runs, in the queue that replicas share",
        8,
        ge=0,
    )
    max_uploads: int = _setting("requests whose bodies are read at the same time", 8, ge=1)
    max_queue_seconds: float = _setting(
        "most predicted seconds of work that may wait",
        14_400.0,
        gt=0,
    )
    job_timeout: float = _setting(
        "seconds a reconstruction may take from acceptance to end; what is predicted to take "
        "longer is refused",
        14_400.0,
        gt=0,
    )
    stall_timeout: float = _setting(
        "seconds without progress after which the process ends",
        600.0,
        gt=0,
    )
    lease: float = _setting(
        "seconds without news of a replica after which another takes over what it runs",
        15.0,
        ge=1,
    )


@dataclass(frozen=True, kw_only=True)
class StorageSettings:
    """Where jobs and results are kept, how many and how long."""

    data_dir: Path | None = _setting(
        "folder for results; without it a temporary one, removed on exit",
        None,
    )
    keep: int = _setting(
        "reconstructions kept, by all replicas together; the oldest is removed first",
        100,
        ge=1,
    )
    keep_hours: float | None = _setting(
        "hours after which a result is removed; without it never",
        None,
        gt=0,
    )
    keep_bytes: int = _setting(
        "most bytes of results, on disk or in the object store; the oldest go first",
        20 * 2**30,
        ge=1,
    )
    min_free_bytes: int = _setting(
        "free bytes on the results' disk below which uploads end",
        256 * 2**20,
        ge=0,
    )
    database: str | None = _setting(
        "PostgreSQL database that replicas share, postgresql://user:password@host/name; needs "
        "object_store too; without it jobs are recorded in the data folder",
        None,
        repr=False,
    )
    database_file: Path | None = _setting(
        "file that holds the address of the database, as secrets do",
        None,
    )
    object_store: str | None = _setting(
        "object store that replicas share, for example s3://bucket/prefix; needs database; "
        "endpoint and credentials come from the provider's own variables; the data folder then "
        "holds copies",
        None,
    )
    cache_bytes: int = _setting(
        "most bytes of copies on disk of what lies in the object store",
        10 * 2**30,
        ge=1,
    )

    def shared_database(self) -> URL | None:
        """Where jobs of all replicas are recorded; None for a process by itself. Raises
        SettingsError."""
        if self.database is not None:
            return _postgresql(self.database, "database")
        if self.database_file is None:
            return None
        try:
            return _postgresql(self.database_file.read_text().strip(), f"{self.database_file}")
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(
                f"can't read database_file {self.database_file}: {error}."
            ) from None


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that can be set, by groups; a room of the service is handed the group that it
    needs. Values are checked by `load_settings`."""

    inference: InferenceSettings
    cluster: ClusterSettings = ClusterSettings()
    server: ServerSettings = ServerSettings()
    access: AccessSettings = AccessSettings()
    limits: Limits = Limits()
    refinement: RefinementSettings = RefinementSettings()
    queue: QueueSettings = QueueSettings()
    storage: StorageSettings = StorageSettings()

    @classmethod
    def of(cls, **values: Any) -> Settings:
        """From single settings by their names, as flags and variables give them. Checks nothing."""
        unknown = set(values) - set(FIELDS)
        if unknown:
            raise TypeError(f"there are no settings {', '.join(sorted(unknown))}")
        groups = {
            name: group(**{field: values[field] for field in fields(group) if field in values})
            for name, group in GROUPS.items()
        }
        return cls(**groups)


GROUPS: dict[str, type[Any]] = {
    "inference": InferenceSettings,
    "cluster": ClusterSettings,
    "server": ServerSettings,
    "access": AccessSettings,
    "limits": Limits,
    "refinement": RefinementSettings,
    "queue": QueueSettings,
    "storage": StorageSettings,
}


def fields(group: type[Any]) -> dict[str, dataclasses.Field[Any]]:
    """The settings of a group by their names."""
    return {field.name: field for field in dataclasses.fields(group)}


FIELDS: dict[str, dataclasses.Field[Any]] = {
    name: field for group in GROUPS.values() for name, field in fields(group).items()
}
"""Every setting by its name; flags and environment variables are called after it."""


def types() -> dict[str, Any]:
    """The type of every setting."""
    return {name: kind for group in GROUPS.values() for name, kind in get_type_hints(group).items()}


def _postgresql(text: str, source: str) -> URL:
    """The address without a word of it in an error: it holds a password."""
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise SettingsError(
            f"{source} holds no address such as postgresql://user:password@host/name."
        ) from None
    if url.drivername not in ("postgresql", "postgres", "postgresql+psycopg"):
        raise SettingsError(
            f"{source} is an address for {url.drivername}; give one that begins with postgresql://."
        )
    return url.set(drivername="postgresql+psycopg")


def _objections(settings: Settings) -> Iterator[tuple[str | None, str]]:
    """What is wrong with values that are fine each by itself: the setting's name, if it is one, and
    why."""
    import torch
    from PIL import Image

    inference, cluster, storage = settings.inference, settings.cluster, settings.storage
    for origin in settings.access.cors_origins:
        if not re.fullmatch(r"https?://[^\s/?#@]+", origin):
            yield "cors_origin", f"{origin!r} is no origin of the form https://site.example"
    if settings.refinement.refine != "off" and refinement_version() is None:
        yield (
            "refine",
            "it needs pycolmap, of Python 3.11 or newer; install it with: "
            "pip install 'quantvggt[refinement]'",
        )
    largest = 2 * (Image.MAX_IMAGE_PIXELS or 0)  # beyond it Pillow itself refuses
    if settings.limits.max_pixels > largest:
        yield "max_pixels", f"no picture of more than {largest} pixels can be opened"
    try:
        device = torch.device(inference.device)
    except RuntimeError:
        yield "device", "not a torch device such as cpu or cuda:0"
        return
    if inference.engine == "ray":  # a replica's device, perhaps another machine's
        if device.index:
            yield "device", "each replica sees one GPU, its own; use cuda"
    elif device.type == "cuda" and not torch.cuda.is_available():
        yield "device", "this machine has no usable CUDA device; use cpu"
    for name in fields(ClusterSettings):
        if inference.engine == "local" and getattr(cluster, name) != FIELDS[name].default:
            yield name, "it belongs to --engine ray"
    if cluster.min_replicas is not None and cluster.min_replicas > cluster.replicas:
        yield "min_replicas", f"there are at most {cluster.replicas} replicas"
    if settings.access.first_key is not None and settings.access.api_keys is None:
        yield "first_key", "it belongs to --api-keys"
    shared = storage.database is not None or storage.database_file is not None
    if storage.database is not None and storage.database_file is not None:
        yield None, "both database and database_file are given; leave one out"
    if shared and storage.object_store is None:
        yield None, "replicas that share a database need object_store too"
    if storage.object_store is not None and not shared:
        yield None, "replicas that share an object_store need database, or database_file, too"


def refinement_version() -> str | None:
    """The version of what the extra `refinement` brings, None if it is not installed."""
    if importlib.util.find_spec("pycolmap") is None:
        return None
    return importlib.metadata.version("pycolmap")


def names_a_setting(variable: str) -> bool:
    """Whether the environment variable of this name is one of the service's, known or not."""
    name = variable.upper()
    return name.startswith((PREFIX, OLD_PREFIX)) and name not in NOT_SETTINGS


def load_settings(flags: Mapping[str, Any], environ: Mapping[str, str] = os.environ) -> Settings:
    """Join `flags` (only those given) and the ``QUANTVGGT_…`` variables of `environ` into checked
    settings.

    Raises SettingsError for an unknown variable, a missing artifact or a bad value.
    """
    known = {PREFIX + name.upper(): name for name in FIELDS}
    variables: dict[str, str] = {}
    # Old names come last and win: whoever still sets one may run an image that brings the new ones
    # along as defaults.
    for key, value in sorted(
        environ.items(), key=lambda item: item[0].upper().startswith(OLD_PREFIX)
    ):
        if not names_a_setting(key) or _is_service_link(key.upper(), value):
            continue
        name = key.upper()
        if name.startswith(OLD_PREFIX):
            name = PREFIX + name.removeprefix(OLD_PREFIX)
            if name in known:
                _log.warning(
                    "%s is now called %s; the next release will not read the old name", key, name
                )
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(sorted(known))}."
            raise SettingsError(f"unknown environment variable {key}={value!r}; {hint}")
        if not value:
            raise SettingsError(
                f"environment variable {key} is empty; give it a value or unset it."
            )
        variables[known[name]] = value
    settings = _validated({**variables, **flags}, lambda name: _given(name, flags, variables))
    for wrong, why in _objections(settings):
        raise SettingsError(
            f"{why}." if wrong is None else f"{_given(wrong, flags, variables)}: {why}."
        )
    return settings


def _is_service_link(name: str, value: str) -> bool:
    """Whether Kubernetes set this variable since a Service has the same name as we; see
    enableServiceLinks."""
    return bool(_SERVICE_LINK.fullmatch(name)) or (name.endswith("_PORT") and "://" in value)


def _validated(values: Mapping[str, Any], given: Callable[[str], str]) -> Settings:
    from pydantic import TypeAdapter, ValidationError

    unknown = set(values) - set(FIELDS)
    if unknown:
        name = min(unknown)
        raise SettingsError(f"{given(name)}: there is no such setting.")
    groups: dict[str, Any] = {}
    try:
        for name, group in GROUPS.items():
            own = {field: values[field] for field in fields(group) if field in values}
            groups[name] = TypeAdapter(group).validate_python(own)
        return Settings(**groups)
    except ValidationError as error:
        first = error.errors()[0]
    name = str(first["loc"][0])
    if first["type"] == "missing":
        raise SettingsError(
            f"no {name} was given; pass {_flag(name)} or set {PREFIX}{name.upper()}."
        )
    raise SettingsError(f"{given(name)}: {first['msg']}.")


def _given(name: str, flags: Mapping[str, Any], variables: Mapping[str, str]) -> str:
    """The setting and its value as whoever gave it wrote them."""
    if name in flags:
        return f"{_flag(name)} {flags[name]}"
    default = FIELDS[name].default if name in FIELDS else ""
    return f"{PREFIX}{name.upper()}={variables.get(name, default)}"


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
