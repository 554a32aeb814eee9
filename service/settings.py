"""The service's settings: flags first, then ``VGGT_…`` environment variables, then the defaults here."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import Image
from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from model.scene.preprocess import MODES

PREFIX = "VGGT_"
LOOPBACK = "127.0.0.1"

# Pillow itself refuses pictures beyond twice its limit, so a larger setting would promise what it can't keep.
_PILLOW_PIXELS = 2 * (Image.MAX_IMAGE_PIXELS or 0)


class SettingsError(ValueError):
    """A flag or environment variable is unknown, missing or out of range. One sentence, naming key and value."""


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    artifact: Path = Field(description="folder of the quantised model, made by `python -m quantization quantize`")
    engine: Literal["local", "ray"] = Field(
        "local",
        description="what runs the network: this process, or replicas that Ray Serve keeps on GPUs and machines",
    )
    host: str = Field(LOOPBACK, description="address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on; 0 picks a free one and prints it")
    device: str = Field("cpu", description="torch device that runs the network, for example cpu or cuda:0")
    threads: int | None = Field(
        None, ge=1, description="threads that run the network on a CPU; without it as many as the cores it may use"
    )
    replicas: int = Field(1, ge=1, description="with --engine ray, most replicas of the network; each has its own GPU")
    min_replicas: int | None = Field(
        None, ge=1, description="with --engine ray, replicas that stay when little is to do; without it all"
    )
    replica_cpus: int | None = Field(
        None, ge=1, description="processor cores of a replica; without it the replicas share this machine's"
    )
    ray_address: str | None = Field(
        None, description="host:port of a Ray cluster that this machine is part of; without it one of the service's own"
    )
    data_dir: Path | None = Field(None, description="folder for results; without it a temporary one, removed on exit")
    keep: int = Field(
        100, ge=1, description="reconstructions kept, by all replicas together; the oldest is removed first"
    )
    mode: Literal["fit", "crop", "pad"] = Field(
        "fit", description="how pictures are brought to the network's size when a request does not say"
    )
    max_images: int = Field(32, ge=1, description="most pictures in one request")
    max_image_bytes: int = Field(32 * 2**20, ge=1, description="most bytes of one picture file")
    max_total_bytes: int = Field(256 * 2**20, ge=1, description="most bytes of one request body")
    max_pixels: int = Field(
        50_000_000, ge=1, le=_PILLOW_PIXELS, description="most pixels of one picture, checked before decoding"
    )
    max_total_pixels: int = Field(400_000_000, ge=1, description="most pixels of all pictures of one request")
    max_unpacked_bytes: int = Field(512 * 2**20, ge=1, description="most bytes of an archive's pictures once unpacked")
    queue_limit: int = Field(
        8, ge=0, description="requests that may wait while another one runs, in the queue that replicas share"
    )
    max_queue_seconds: float = Field(3600.0, gt=0, description="most predicted seconds of work that may wait")
    upload_timeout: float = Field(
        60.0, gt=0, description="seconds a request body, with what its URLs name, may take to arrive"
    )
    fetch_urls: bool = Field(False, description="fetch pictures that a request names by URL, from public https servers")
    fetch_hosts: str | None = Field(
        None, description="fetch from these hosts only, internal ones too: host, host:port or http://host:port, with "
        "commas between them",
    )  # fmt: skip
    fetch_timeout: float = Field(
        10.0, gt=0, description="seconds a URL's server may take to be reached, to answer, and between two pieces"
    )
    header_timeout: float = Field(10.0, gt=0, description="seconds a request's head may take to arrive")
    video_timeout: float = Field(60.0, gt=0, description="seconds that reading a video may take")
    job_timeout: float = Field(1800.0, gt=0, description="seconds a reconstruction may take from acceptance to end")
    stall_timeout: float = Field(600.0, gt=0, description="seconds without progress after which the process ends")
    shutdown_timeout: int = Field(30, ge=0, description="seconds that running requests get to finish at shutdown")
    heartbeat: float = Field(15.0, gt=0, description="seconds between heartbeats on an idle event stream")
    memory_budget: int | None = Field(
        None, ge=1, description="bytes one pass may take beyond the loaded model; without it most of what is free"
    )
    pass_frames: int | None = Field(None, ge=2, description="most frames in one pass; longer scenes are chunked")
    keep_hours: float | None = Field(None, gt=0, description="hours after which a result is removed; without it never")
    keep_bytes: int = Field(
        20 * 2**30, ge=1, description="most bytes of results, on disk or in the object store; the oldest go first"
    )
    min_free_bytes: int = Field(
        256 * 2**20, ge=0, description="free bytes on the results' disk below which uploads end"
    )
    api_keys: Path | None = Field(
        None, description="file of hashed API keys, made by `python -m service key`; without it everybody may use it"
    )
    database: SecretStr | None = Field(
        None,
        description="PostgreSQL database that replicas share, postgresql://user:password@host/name; needs object_store "
        "too; without it jobs are recorded in the data folder",
    )
    database_file: Path | None = Field(None, description="file that holds the address of the database, as secrets do")
    object_store: str | None = Field(
        None,
        description="object store that replicas share, for example s3://bucket/prefix; needs database; endpoint and "
        "credentials come from the provider's own variables; the data folder then holds copies",
    )
    lease: float = Field(
        15.0, ge=1, description="seconds without news of a replica after which another takes over what it runs"
    )
    cache_bytes: int = Field(
        10 * 2**30, ge=1, description="most bytes of copies on disk of what lies in the object store"
    )
    require_native_kernels: bool = Field(False, description="refuse to start on the slow reference kernels")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level logged")
    log_format: Literal["text", "json"] = Field("text", description="how log lines are written")

    @field_validator("device")
    @classmethod
    def _known_device(cls, value: str, info: ValidationInfo) -> str:
        try:
            device = torch.device(value)
        except RuntimeError:
            raise ValueError("not a torch device such as cpu or cuda:0") from None
        if info.data.get("engine") == "ray":  # a replica's device, perhaps another machine's
            if device.index:
                raise ValueError("each replica sees one GPU, its own; use cuda")
        elif device.type == "cuda" and not torch.cuda.is_available():
            raise ValueError("this machine has no usable CUDA device; use cpu")
        return value

    @field_validator("replicas", "min_replicas", "replica_cpus", "ray_address")
    @classmethod
    def _belongs_to_ray(cls, value: Any, info: ValidationInfo) -> Any:
        assert info.field_name is not None
        if value != cls.model_fields[info.field_name].default and info.data.get("engine") == "local":
            raise ValueError("it belongs to --engine ray")
        if info.field_name == "min_replicas" and value is not None and value > info.data.get("replicas", value):
            raise ValueError(f"there are at most {info.data['replicas']} replicas")
        return value

    @model_validator(mode="after")
    def _shared_together(self) -> Settings:
        if self.database is not None and self.database_file is not None:
            raise ValueError("both database and database_file are given; leave one out")
        if (self.database or self.database_file) and self.object_store is None:
            raise ValueError("replicas that share a database need object_store too")
        if self.object_store is not None and not (self.database or self.database_file):
            raise ValueError("replicas that share an object_store need database, or database_file, too")
        return self

    def shared_database(self) -> URL | None:
        """Where jobs of all replicas are recorded; None for a process by itself. Raises SettingsError."""
        if self.database is not None:
            return _postgresql(self.database.get_secret_value(), "database")
        if self.database_file is None:
            return None
        try:
            return _postgresql(self.database_file.read_text().strip(), f"{self.database_file}")
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"can't read database_file {self.database_file}: {error}.") from None


def _postgresql(text: str, source: str) -> URL:
    """The address without a word of it in an error: it holds a password."""
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise SettingsError(f"{source} holds no address such as postgresql://user:password@host/name.") from None
    if url.drivername not in ("postgresql", "postgres", "postgresql+psycopg"):
        raise SettingsError(f"{source} is an address for {url.drivername}; give one that begins with postgresql://.")
    return url.set(drivername="postgresql+psycopg")


assert MODES == ("fit", "crop", "pad"), "Settings.mode and the forms offer exactly the modes of preprocessing"


def load_settings(flags: Mapping[str, Any], environ: Mapping[str, str] = os.environ) -> Settings:
    """Join `flags` (only those given) and the ``VGGT_…`` variables of `environ` into checked settings.

    Raises SettingsError for an unknown variable, a missing artifact or a bad value.
    """
    known = {PREFIX + name.upper(): name for name in Settings.model_fields}
    variables: dict[str, str] = {}
    for key, value in environ.items():
        if not key.upper().startswith(PREFIX):
            continue
        if key.upper() not in known:
            near = difflib.get_close_matches(key.upper(), known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(sorted(known))}."
            raise SettingsError(f"unknown environment variable {key}={value!r}; {hint}")
        if not value:
            raise SettingsError(f"environment variable {key} is empty; give it a value or unset it.")
        variables[known[key.upper()]] = value
    try:
        return Settings(**{**variables, **flags})
    except ValidationError as error:
        first = error.errors()[0]
        if not first["loc"]:
            raise SettingsError(f"{first['msg'].removeprefix('Value error, ')}.") from None
        name = str(first["loc"][0])
        flag, variable = "--" + name.replace("_", "-"), PREFIX + name.upper()
        if first["type"] == "missing":
            raise SettingsError(f"no {name} was given; pass {flag} or set {variable}.") from None
        given = f"{flag} {flags[name]}" if name in flags else f"{variable}={variables.get(name)}"
        raise SettingsError(f"{given}: {first['msg'].removeprefix('Value error, ')}.") from None
