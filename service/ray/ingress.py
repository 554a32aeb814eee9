"""The whole service as one Ray Serve application, for a cluster where Serve's own proxies take the
requests (KubeRay).

Import path in a Serve configuration: ``service.ray.ingress:application``; settings are its
arguments, by the names of flags with underscores, and the ``QUANTVGGT_…`` variables. On one machine
``quantvggt serve --engine ray`` is better: its server limits request heads and drains.
"""

from __future__ import annotations

import os
from typing import Any

from ray import serve
from ray.serve.handle import DeploymentHandle
from starlette.types import ASGIApp

from service.application import Application
from service.http.app import create_app
from service.inference.models import Models
from service.ray.cluster import ClusterEngine
from service.ray.deployment import replicas
from service.settings import Settings, load_settings
from service.telemetry.logs import configure_logs

RESOURCE = "ingress"
"""The node with one of this custom resource runs the HTTP side, which keeps jobs and results on
that node's disk."""

_LOST = 70  # EX_SOFTWARE
# clients wait, follow events and download; the queue is bounded by the service itself
_OPEN_REQUESTS = 1000


class Ingress:
    """HTTP, jobs and results; the network is in the replicas."""

    def __init__(self, arguments: dict[str, Any], handle: DeploymentHandle) -> None:
        # what the variables of its own process add stays there: secrets may be among it
        self._arguments = arguments
        self._handle = handle

    def __serve_build_asgi_app__(self) -> ASGIApp:  # Ray's name
        settings = _settings(self._arguments)
        configure_logs(settings.server.log_level, settings.server.log_format)
        models = Models.of(settings, lambda inference: ClusterEngine(settings, self._handle))
        return create_app(Application(settings, models, on_failure=lambda: os._exit(_LOST)))


def application(arguments: dict[str, Any]) -> serve.Application:
    """Build the application. Raises SettingsError."""
    settings = _settings(arguments)
    deployed = serve.deployment(
        name="Ingress",
        num_replicas=1,
        max_ongoing_requests=_OPEN_REQUESTS,
        # Jobs, connections and the worker may each take as long as the setting says.
        graceful_shutdown_timeout_s=3.0 * settings.server.shutdown_timeout + 10,
        ray_actor_options={"num_cpus": 0, "resources": {RESOURCE: 1}},
    )
    return deployed(serve.ingress()(Ingress)).bind(arguments, replicas(settings))


def _settings(arguments: dict[str, Any]) -> Settings:
    return load_settings({**arguments, "engine": "ray"})
