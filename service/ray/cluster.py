"""The engine whose passes run on replicas of the network, spread by Ray Serve over GPUs and
machines."""

from __future__ import annotations

import logging
import queue
import threading
import time
from typing import Any

import ray.exceptions
import torch
from ray.serve.exceptions import DeploymentUnavailableError, ReplicaUnavailableError
from ray.serve.handle import DeploymentHandle
from torch import Tensor

from model.errors import ArtifactError
from model.reconstruct import Cameras
from model.scene.preprocess import PreprocessedImages
from service.errors import Interrupted, NotReady, restored
from service.inference.engine import Engine, Observer
from service.inference.network_pass import Pass
from service.ray.deployment import Deployment
from service.ray.transport import Description, Done, Order, Progress, Refused
from service.result.document import ModelDocument
from service.settings import Settings

_SENDINGS = 4
_POLL_SECONDS = 1.0
_AGAIN_SECONDS = 1.0  # until Ray Serve has noticed that a replica is gone
_LOST = (
    ray.exceptions.RayActorError,
    ray.exceptions.ObjectLostError,
    ray.exceptions.NodeDiedError,
    ray.exceptions.WorkerCrashedError,
    ReplicaUnavailableError,
    DeploymentUnavailableError,
)

_log = logging.getLogger("service")


class _Silent(Exception):  # noqa: N818 - what is wrong with the replica is not known
    """A replica has told nothing for too long."""


class ClusterEngine(Engine):
    """As `Engine`, with the network in replicas. Several passes may run at a time, from several
    threads.

    A pass whose replica dies, falls silent or gets lost is sent again, to another one. Plans are
    made here, with what one replica has measured. Given `handle`, the replicas belong to the
    application that this is part of.
    """

    def __init__(self, settings: Settings, handle: DeploymentHandle | None = None) -> None:
        super().__init__(settings.inference)
        self._cluster = settings.cluster
        self._stall_timeout = settings.queue.stall_timeout
        self._deployment = Deployment(settings, lambda error: self.on_loss(error), handle)
        self._model: ModelDocument | None = None

    @property
    def lanes(self) -> int:
        return self._cluster.replicas

    @property
    def replicas(self) -> dict[str, int]:
        return self._deployment.states

    @property
    def ready(self) -> bool:
        return self._model is not None and self.replicas["running"] > 0

    def check_ready(self) -> None:
        if not self.ready:
            raise NotReady("No replica of the network is ready yet.")

    def check_kernels(self) -> None:
        """Every replica checks its own."""

    def document(self) -> ModelDocument:
        if self._model is not None:
            return self._model
        return (
            super()
            .document()
            .model_copy(update={"kernels": "those of the replicas, of which none has run yet"})
        )

    def load(self) -> None:
        """Start replicas and learn from the first of them. Raises ArtifactError, SettingsError,
        RuntimeError."""
        started = time.perf_counter()
        self._deployment.start()
        found: Description = self._deployment.handle.describe.remote().result()
        if found.digest != self.digest:
            raise ArtifactError(
                f"{self.artifact} is another model at the replicas: {found.digest}, not "
                f"{self.digest}."
            )
        self.planner.model.calibration = list(found.calibration)
        if self.planner.budget is None and found.budget is not None:
            # replicas on one machine share its memory
            shared = torch.device(self.device).type == "cpu"
            self.planner.budget = found.budget // (self._cluster.replicas if shared else 1)
        self._model = ModelDocument.model_validate(found.model)
        _log.info(
            "ready after %.1f s: %s in %d to %d replicas on %s, %s kernels; a pass may take %s "
            "bytes",
            time.perf_counter() - started,
            self._model.name,
            self._cluster.min_replicas or self._cluster.replicas,
            self._cluster.replicas,
            self._model.device,
            self._model.kernels,
            self.planner.budget,
        )
        for sentence in self._model.fallbacks:
            _log.warning("%s", sentence)

    def close(self) -> None:
        self._deployment.stop()

    def infer(
        self,
        batch: PreprocessedImages,
        observer: Observer = lambda stage, share: None,
        query_points: Tensor | None = None,
        describe: bool = False,
        attention_keys: int | None = None,
        cameras: Cameras | None = None,
    ) -> Pass:
        """As `Engine.infer`. While it waits for a replica `observer` is called all the same, so
        that it can stop it.

        Raises a ServiceError, Interrupted if replicas keep getting lost over it, and what
        `observer` raises.
        """
        order = Order.of(batch, query_points, describe, attention_keys, cameras)
        for sending in range(_SENDINGS):
            try:
                done = self._sent(order, observer)
            except (*_LOST, _Silent) as error:
                _log.warning(
                    "replica lost, sending %d of %d: %s", sending + 1, _SENDINGS, _first_line(error)
                )
                observer("transfer", 0.0)
                time.sleep(_AGAIN_SECONDS)
            else:
                self.health.worked()
                self._learn(batch, query_points, attention_keys, done)
                return done
        raise Interrupted(
            f"{_SENDINGS} replicas of the network ended while they worked on this reconstruction."
        )

    def _sent(self, order: Order, observer: Observer) -> Pass:
        """Send one pass and follow it to its end."""
        answers: Any = self._deployment.handle.options(stream=True).infer.remote(order)
        news: queue.SimpleQueue[Any] = queue.SimpleQueue()
        threading.Thread(target=_forward, args=(answers, news), name="answers", daemon=True).start()
        last, answered = Progress("transfer", 0.0), None
        try:
            while True:
                try:
                    answer = news.get(timeout=_POLL_SECONDS)
                    answered = time.monotonic()
                except queue.Empty:
                    if answered is not None and time.monotonic() - answered > self._stall_timeout:
                        raise _Silent(f"no progress for {self._stall_timeout:g} seconds") from None
                    answer = last
                if isinstance(answer, Progress):
                    last = answer
                    observer(answer.stage, answer.share)
                elif isinstance(answer, Done):
                    return answer.to_pass(order.transforms)
                elif isinstance(answer, Refused):
                    raise restored(answer.error)
                else:
                    raise answer
        except BaseException:
            answers.cancel()
            raise


def _forward(answers: Any, news: queue.SimpleQueue[Any]) -> None:
    """Put what the replica answers, or the exception that ended it, where it can be waited for with
    a time limit."""
    try:
        for answer in answers:
            news.put(answer)
    except Exception as error:
        news.put(error)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
