"""Settings of where the service answers, and whom."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from service.settings.setting import setting

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """Where and how the service answers."""

    host: str = setting("address to listen on", LOOPBACK)
    port: int = setting(
        "port to listen on; 0 picks a free one and prints it",
        8000,
        ge=0,
        le=65535,
    )
    header_timeout: float = setting("seconds a request's head may take to arrive", 10.0, gt=0)
    max_connections: int = setting(
        "connections at the same time; on a few more only health is answered", 512, ge=1
    )
    heartbeat: float = setting("seconds between heartbeats on an idle event stream", 15.0, gt=0)
    shutdown_timeout: int = setting(
        "seconds that running requests get to finish at shutdown",
        30,
        ge=0,
    )
    log_level: Literal["debug", "info", "warning", "error"] = setting("least level logged", "info")
    log_format: Literal["text", "json"] = setting("how log lines are written", "text")


@dataclass(frozen=True, kw_only=True)
class AccessSettings:
    """Who may use the service, and what it fetches for them."""

    api_keys: Path | None = setting(
        "file of hashed API keys, made by `quantvggt key`; without it everybody may use it",
        None,
    )
    first_key: Path | None = setting(
        "where to write a first API key, if api_keys names a file that is not there yet",
        None,
    )
    shared_gallery: bool = setting(
        "without API keys everybody sees, names and removes everybody's results; else each browser "
        "has a list of its own",
        False,
    )
    allowed_hosts: str | None = setting(
        "names that requests may call the service by, with commas between them, * for any; without "
        "it this machine's own names if it listens on this machine only, else any",
        None,
    )
    cors_origin: str | None = setting(
        "other sites whose pages may use the service, as https://site.example, with commas between "
        "them; without it none",
        None,
    )
    fetch_urls: bool = setting(
        "fetch pictures that a request names by URL, from public https servers",
        False,
    )
    fetch_hosts: str | None = setting(
        "fetch from these hosts only, internal ones too: host, host:port or http://host:port, with "
        "commas between them",
        None,
    )
    fetch_timeout: float = setting(
        "seconds a URL's server may take to be reached, to answer, and between two pieces",
        10.0,
        gt=0,
    )
    webhook_secret: Path | None = setting(
        "file with the secret that callbacks (`callback_url`) are signed with; without it none are "
        "made",
        None,
    )
    send_outputs: bool = setting(
        "send files of results to URLs that a request names (`output_urls`), which are checked as "
        "those to fetch from",
        False,
    )

    @property
    def cors_origins(self) -> list[str]:
        """The sites of `cors_origin`."""
        origins = (origin.strip().rstrip("/") for origin in (self.cors_origin or "").split(","))
        return [origin.lower() for origin in origins if origin]
