"""A service in this process, asked over a loopback socket."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from service.application import Application
from service.http.app import create_app
from service.inference.engine import Engine
from service.inference.models import Models
from service.settings import Settings


@contextmanager
def served(artifact: Path) -> Iterator[tuple[str, Engine]]:
    """The address of a service that is ready, and its engine; its files go with it."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings.of(artifact=artifact, data_dir=Path(folder), log_level="error")
        models = Models.of(settings, Engine)
        app = create_app(Application(settings, models))
        server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None))
        thread = threading.Thread(target=server.run)
        thread.start()
        while thread.is_alive() and not (server.started and models.ready):
            time.sleep(0.05)
        try:
            port = server.servers[0].sockets[0].getsockname()[1]
            yield f"http://127.0.0.1:{port}", models.usual
        finally:
            server.should_exit = True
            thread.join()
