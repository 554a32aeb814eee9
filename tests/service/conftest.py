from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
import trustme
import uvicorn

from model import VGGT
from model.families.vggt.presets import PRESETS
from model.files.artifact import save
from quantization.convert import quantize_network
from quantization.recipe import Recipe
from service.application import Application
from service.http.app import create_app
from service.http.server import limited_protocol
from service.inference import warm_up
from service.inference.engine import Engine
from service.inference.models import Models
from service.settings import Settings, names_a_setting
from tests.service.refined_scene import network, refined_scene, refinement, room
from tests.service.running import Running, Serve
from tests.service.servers import ObjectServer, Postgres
from tests.service.stored_scene import scene

__all__ = ["network", "refined_scene", "refinement", "room", "scene"]  # fixtures


@pytest.fixture(scope="session", autouse=True)
def one_torch_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def short_warm_up() -> Iterator[None]:
    """Every start would otherwise measure passes of up to 96 frames, which takes two seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(warm_up, "_LONG_SECONDS", 0.0)
        yield


@pytest.fixture(autouse=True)
def no_settings_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for key in [key for key in os.environ if names_a_setting(key)]:
        monkeypatch.delenv(key)


@pytest.fixture(autouse=True)
def log_handlers_of_this_test_only() -> Iterator[None]:
    """A command that a test runs may configure the root logger for a standard error that ends with
    the test."""
    before = logging.root.handlers[:]
    yield
    logging.root.handlers[:] = before


@pytest.fixture(scope="session")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A quantised network of the demo preset's shape with random weights."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "tiny"
    provenance = {"checkpoint": "tiny", "weights_licence": "CC0-1.0"}
    save(quantize_network(VGGT(PRESETS["demo"]), Recipe()), path, provenance=provenance)
    return path


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    server = Postgres()
    try:
        server.start()
        yield server
        server.stop()
    finally:
        server.remove()


@pytest.fixture(scope="session")
def object_server() -> Iterator[ObjectServer]:
    server = ObjectServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def object_store(object_server: ObjectServer, monkeypatch: pytest.MonkeyPatch) -> str:
    """Address of an empty part of an object store, which the environment leads to."""
    for name, value in object_server.environment.items():
        monkeypatch.setenv(name, value)
    return object_server.url()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Iterator[trustme.CA]:
    """An authority that this process trusts in this module."""
    certificates = trustme.CA(key_type=trustme.KeyType.ECDSA)
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    certificates.cert_pem.write_to_path(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(path))
        yield certificates


@pytest.fixture(scope="module")
def serve(artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """Start services: serve(engine_class, wait=True, **settings)."""
    with ExitStack() as stack:

        def start(
            engine_class: type[Engine] = Engine, wait: bool = True, **options: Any
        ) -> Running:
            options.setdefault("data_dir", tmp_path_factory.mktemp("data"))
            options.setdefault("shutdown_timeout", 1)
            settings = Settings.of(**{"artifact": artifact, **options})
            application = Application(settings, Models.of(settings, engine_class))
            app = create_app(application)
            protocol = limited_protocol(
                settings.server.header_timeout, settings.server.max_connections
            )
            server = uvicorn.Server(
                uvicorn.Config(app, http=protocol, port=0, log_config=None, server_header=False)
            )
            thread = threading.Thread(target=server.run)
            thread.start()

            def stop() -> None:
                server.should_exit = True
                thread.join()

            stack.callback(stop)
            while not server.started:
                time.sleep(0.01)
            port = server.servers[0].sockets[0].getsockname()[1]
            client = stack.enter_context(
                httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False)
            )
            while wait and client.get("/readyz").status_code != 200:
                time.sleep(0.02)
            return Running(client, application, port, settings.storage.data_dir or Path(), stop)

        yield start
