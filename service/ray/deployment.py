"""The replicas as a Ray Serve deployment: how they are kept, and a thread that starts, watches and
ends them."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import socket
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
import torch
from ray import serve
from ray.serve.handle import DeploymentHandle
from ray.serve.schema import ApplicationStatus

from model.errors import ArtifactError
from service.ray.replica import Replica
from service.settings import Settings, SettingsError

APPLICATION = "quantvggt"
REPLICA = "Replica"

_ROOT = Path(__file__).parents[2]
_WATCH_SECONDS = 1.0
_LOST_SECONDS = 60.0  # a head node that restarts is back before
# a pass of 32 pictures of 518 x 518 pixels and its result take half of it
_STORE_BYTES_PER_REPLICA = 512 * 2**20
# not what TMPDIR says: paths of sockets have 107 bytes at most, and Ray needs 70 of them
_TEMPORARY = Path("/tmp")


def replicas(settings: Settings) -> serve.Application:
    """The deployment of `settings.cluster.replicas` copies of the network, fewer when little is to
    do.

    Each has a GPU of its own where the device is one, the only one that it sees, and takes one pass
    at a time.
    """
    least = settings.cluster.min_replicas or settings.cluster.replicas
    cpus = cores_per_replica(settings)
    on_gpu = torch.device(settings.inference.device).type == "cuda"
    # The rest of the settings, secrets among it, is none of its business, nor of the cluster that
    # keeps it. Threads are those that its environment gives it.
    own = replace(
        settings.inference, device="cuda:0" if on_gpu else settings.inference.device, threads=None
    )
    server = settings.server
    deployed = serve.deployment(
        name=REPLICA,
        max_ongoing_requests=1,
        autoscaling_config={
            "min_replicas": least,
            "max_replicas": settings.cluster.replicas,
            "target_ongoing_requests": 1,
            "upscale_delay_s": 5,
            "downscale_delay_s": 300,
        },
        health_check_period_s=min(10.0, settings.queue.stall_timeout / 4),
        health_check_timeout_s=min(30.0, settings.queue.stall_timeout),
        graceful_shutdown_timeout_s=10,
        max_constructor_retry_count=3,
        ray_actor_options={
            "num_cpus": cpus,
            "num_gpus": int(on_gpu),
            "runtime_env": {"env_vars": {"OMP_NUM_THREADS": str(cpus), "PYTHONPATH": str(_ROOT)}},
        },
    )
    return deployed(Replica).bind(
        own, settings.queue.stall_timeout, server.log_level, server.log_format
    )


def cores_per_replica(settings: Settings) -> int:
    """Cores, and so threads, of each replica: those given, or an equal share of what this process
    may use."""
    return settings.cluster.replica_cpus or max(
        1, len(os.sched_getaffinity(0)) // settings.cluster.replicas
    )


class Deployment:
    """The replicas from `start` to `stop`.

    Everything that starts or ends Ray happens on one thread, for Ray's processes are told by the
    kernel to end with the thread that started them. Given `handle`, the replicas are part of an
    application that Ray Serve runs already.
    """

    def __init__(
        self,
        settings: Settings,
        on_loss: Callable[[Exception], None],
        handle: DeploymentHandle | None = None,
    ) -> None:
        self._settings = settings
        self._on_loss = on_loss
        self._handle = handle
        self._application = APPLICATION if handle is None else serve.get_replica_context().app_name
        self._thread = threading.Thread(target=self._run, name="ray", daemon=True)
        self._started, self._ended = threading.Event(), threading.Event()
        self._failure: Exception | None = None
        self._states: Counter[str] = Counter()

    @property
    def handle(self) -> DeploymentHandle:
        """What sends work to the replicas, once `start` has returned."""
        assert self._handle is not None
        return self._handle

    @property
    def states(self) -> dict[str, int]:
        """How many replicas run and how many are being started."""
        running = self._states["RUNNING"]
        return {
            "running": running,
            "starting": self._states.total() - running - self._states["STOPPING"],
        }

    def start(self) -> None:
        """Returns once a replica runs. Raises ArtifactError, SettingsError, RuntimeError if none
        can be started."""
        self._thread.start()
        self._started.wait()
        if self._failure is not None:
            raise self._failure
        if self._ended.is_set():
            raise RuntimeError("the replicas were ended before one of them ran")

    def stop(self) -> None:
        """End the replicas, and what was started for them."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        try:
            if self._handle is not None:
                self._watch()
            else:
                with _connected(self._settings):
                    self._deploy()
                    self._watch()
        except Exception as error:
            self._failure = error
            if self._started.is_set() and not self._ended.is_set():
                self._on_loss(error)
        finally:
            self._states.clear()
            self._started.set()

    def _deploy(self) -> None:
        serve.start(proxy_location="Disabled", logging_config=_quiet())
        target = serve.RunTarget(replicas(self._settings), name=APPLICATION, route_prefix=None)
        serve.run_many([target], wait_for_applications_running=False)
        self._handle = serve.get_deployment_handle(REPLICA, APPLICATION)

    def _watch(self) -> None:
        answered = time.monotonic()
        while not self._ended.wait(
            _WATCH_SECONDS if self._started.is_set() else _WATCH_SECONDS / 10
        ):
            try:
                status = serve.status().applications[self._application]
                answered = time.monotonic()
            except (
                Exception
            ) as error:  # of many kinds, and Ray mends most of what is behind them by itself
                self._states.clear()
                if time.monotonic() - answered > _LOST_SECONDS:
                    raise RuntimeError(
                        f"the Ray cluster has not answered for {_LOST_SECONDS:g} seconds"
                    ) from error
                continue
            if REPLICA not in status.deployments:
                continue
            kept = status.deployments[REPLICA]
            if not self._started.is_set() and status.status == ApplicationStatus.DEPLOY_FAILED:
                raise _what_failed(kept.message)
            self._states = Counter(kept.replica_states)
            if self._states["RUNNING"]:
                self._started.set()


@contextmanager
def _connected(settings: Settings) -> Iterator[None]:
    """Within the context this process is part of the cluster that was named, or of one of its own
    on this machine."""
    logging.getLogger("ray").setLevel(logging.ERROR)
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    options: dict[str, Any] = {"configure_logging": False, "log_to_driver": False}
    if settings.cluster.ray_address is not None:
        _join(settings.cluster.ray_address, options)
        try:
            yield
            serve.delete(APPLICATION)
        finally:
            ray.shutdown()
        return
    os.environ |= {
        "RAY_USAGE_STATS_ENABLED": "0",  # nothing is reported to anybody
        # nobody else on this machine can join, for it is nowhere but here
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        # what is gone on one machine does not come back
        "RAY_gcs_rpc_server_reconnect_timeout_s": "10",
    }
    folder = tempfile.mkdtemp(prefix="ray-", dir=_TEMPORARY)
    try:
        ray.init(
            "local",
            num_cpus=settings.cluster.replicas * cores_per_replica(settings),
            object_store_memory=settings.cluster.replicas * _STORE_BYTES_PER_REPLICA,
            include_dashboard=False,
            _temp_dir=folder,
            **options,
        )
        gpus = int(ray.cluster_resources().get("GPU", 0))
        wanted = settings.cluster.replicas
        if torch.device(settings.inference.device).type == "cuda" and gpus < wanted:
            raise SettingsError(
                f"--replicas {wanted}: each needs a GPU, and this machine has {gpus}."
            )
        yield
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


def _join(address: str, options: dict[str, Any]) -> None:
    """Become part of the cluster at `address`. Raises SettingsError."""
    host, _, port = address.rpartition(":")
    try:
        # Ray itself would try for minutes
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, ValueError):
        raise SettingsError(
            f"--ray-address {address}: nothing answers there; give the host:port of a head."
        ) from None
    try:
        ray.init(address, **options)
    except ConnectionError:
        raise SettingsError(
            f"--ray-address {address}: the cluster does not let this process in; "
            "one with a token wants it in RAY_AUTH_TOKEN, and RAY_AUTH_MODE=token."
        ) from None


def _what_failed(message: str) -> Exception:
    """The error whose traceback ends what Ray Serve tells: one of the service's own, or else all
    that is told."""
    name, _, words = message.rstrip().splitlines()[-1].partition(": ")
    kinds = {
        f"{kind.__module__}.{kind.__qualname__}": kind for kind in (ArtifactError, SettingsError)
    }
    return (
        kinds[name](words)
        if name in kinds
        else RuntimeError(f"no replica of the network could be started: {message}")
    )


def _quiet() -> dict[str, Any]:
    """Serve's own log lines of every request would be those of every pass, which the service logs
    itself."""
    return {"log_level": "WARNING", "enable_access_log": False}
