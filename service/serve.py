"""The service as a process: from checked settings to an open port, until a signal ends it."""

from __future__ import annotations

import os
import resource
import signal
import socket
from collections.abc import Callable
from types import FrameType

import uvicorn

from model.errors import ArtifactError
from service.application import Application
from service.http.app import create_app
from service.http.server import DrainingServer, end_process, limited_protocol
from service.inference.engine import Engine
from service.inference.models import Models
from service.jobs.database import DatabaseError
from service.jobs.retention import RecordsMissingError
from service.jobs.schema import SchemaError
from service.keys import KeysError
from service.settings import ServerSettings, Settings, SettingsError
from service.storage.bucket import BucketError
from service.storage.folder import StorageInUseError
from service.telemetry.logs import configure_logs
from service.telemetry.tracing import TracingError, configure_tracing

BAD_INPUT = (
    ArtifactError,
    BucketError,
    DatabaseError,
    KeysError,
    RecordsMissingError,
    SchemaError,
    SettingsError,
    StorageInUseError,
    TracingError,
)
"""What `serve` raises, with one sentence, for settings that it can't work with."""

_STUCK = 70  # EX_SOFTWARE
_FILES = 2**16


def serve(settings: Settings, announce: Callable[[str], None]) -> None:
    """Answer requests until a signal ends it; `announce` gets the address once the port is open.

    Raises one of `BAD_INPUT`, or what stopped the model from loading.
    """
    configure_logs(settings.server.log_level, settings.server.log_format)
    configure_tracing()
    _allow_many_files()
    models = _models(settings)
    models.check_licences()
    models.check_kernels()
    models.check_memory()

    def stop() -> None:
        if application.stuck:
            end_process(_STUCK)
        server.should_exit = True

    application = Application(settings, models, on_failure=stop)
    app = create_app(application)
    try:
        listener = _listen(settings.server)
    except SettingsError:
        application.close()
        raise
    host, port = listener.getsockname()[:2]
    announce(f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")

    # uvicorn raises a caught signal again when it has shut down: let that end the process with
    # status 0.
    signal.signal(signal.SIGTERM, _exit_cleanly)
    config = uvicorn.Config(
        app,
        http=limited_protocol(settings.server.header_timeout, settings.server.max_connections),
        loop="asyncio",  # Ray brings another one along, which uvicorn would prefer
        log_config=None,
        server_header=False,
        access_log=False,
        timeout_graceful_shutdown=settings.server.shutdown_timeout,
    )
    server = DrainingServer(
        config, application.drain, lambda: not application.busy, settings.server.shutdown_timeout
    )
    server.run(sockets=[listener])
    if application.failure is not None:
        raise application.failure


def _models(settings: Settings) -> Models:
    if settings.inference.engine == "local":
        return Models.of(settings, Engine)
    # read on import; it takes SIGTERM for a crash
    os.environ.setdefault("RAY_DISABLE_FAILURE_SIGNAL_HANDLER", "1")
    try:
        # the only way to Ray, which is large and an extra
        from service.ray.cluster import ClusterEngine
    except ImportError as error:
        raise SettingsError(
            f"--engine ray: {error.name} is missing; install it with: pip install 'quantvggt[ray]'"
        ) from None
    return Models.of(settings, lambda inference: ClusterEngine(settings))


def _allow_many_files() -> None:
    """Every picture of an upload is an open file until it is decoded."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _FILES if hard == resource.RLIM_INFINITY else min(hard, _FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _exit_cleanly(number: int, frame: FrameType | None) -> None:
    raise SystemExit(0)


def _listen(settings: ServerSettings) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        return socket.create_server((settings.host, settings.port), family=family)
    except OSError as error:
        raise SettingsError(
            f"can't listen on {settings.host} port {settings.port}: {error.strerror}."
        ) from None
