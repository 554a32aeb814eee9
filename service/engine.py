"""The network behind the service: loaded once, warmed up, one inference at a time on a thread of its own."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from kernels import kernel_path
from model import VGGT, VGGTConfig
from model.artifact import load, read_manifest
from model.errors import ArtifactError, ReconstructionError
from model.preprocess import PreprocessedImages
from model.reconstruction import Reconstruction, decode
from service.problems import NonFiniteOutput, NotReady, OutOfMemory, QueueFull
from service.result import ModelDocument

T = TypeVar("T")

_log = logging.getLogger("service")
_RETRY_SECONDS = 5


@dataclass(frozen=True)
class Inference:
    """One scene and the seconds that it waited for the network and ran on it."""

    reconstruction: Reconstruction
    queue_seconds: float
    network_seconds: float


class Engine:
    """A quantised VGGT on one device.

    The constructor reads only the manifest, so that a wrong path fails before anything listens; `load` reads the
    weights. Both raise ArtifactError. `admit` bounds how many requests may be under way; of those, the single
    thread of `run` takes one at a time, in the order of their coming.
    """

    def __init__(self, artifact: Path, device: str, queue_limit: int) -> None:
        self.artifact = artifact
        self.device = device
        self.manifest = read_manifest(artifact)
        self._config = _config(self.manifest, artifact)
        self.digest = _digest(artifact)
        self.capacity = queue_limit + 1
        self.admitted = 0
        self.failure: Exception | None = None
        self._net: VGGT | None = None
        self._lock = threading.Lock()
        self._network_thread = ThreadPoolExecutor(1, thread_name_prefix="network")
        self._picture_threads = ThreadPoolExecutor(2, thread_name_prefix="pictures")

    @property
    def image_size(self) -> int:
        """Longer side of the network's input in pixels."""
        return self._config.img_size

    @property
    def patch_size(self) -> int:
        """Side of a patch in pixels."""
        return self._config.patch_size

    def document(self) -> ModelDocument:
        """What results and /capabilities say about the model."""
        provenance = self.manifest["provenance"]
        return ModelDocument(
            name=str(provenance.get("checkpoint") or self.artifact.resolve().name),
            artifact=self.digest,
            weights_licence=provenance.get("weights_licence"),
            device=self.device,
            kernels=str(kernel_path(self.device)),
        )

    @property
    def ready(self) -> bool:
        return self._net is not None

    @property
    def net(self) -> VGGT:
        """The loaded network. Raises NotReady before."""
        if self._net is None:
            raise NotReady("The model is still being loaded.", headers={"Retry-After": str(_RETRY_SECONDS)})
        return self._net

    def load(self) -> None:
        """Read the weights and run one grey picture, so that the first request pays for nothing but itself."""
        net = load(self.artifact, device=self.device)
        with torch.inference_mode():
            net(torch.full((1, 3, self.image_size, self.image_size), 0.5, device=self.device))
        self._net = net

    async def start(self, on_failure: Callable[[], None]) -> None:
        """`load` on the network's thread. A failure is kept in `failure` and reported by calling `on_failure`."""
        started = time.perf_counter()
        try:
            await asyncio.get_running_loop().run_in_executor(self._network_thread, self.load)
            model, seconds = self.document(), time.perf_counter() - started
            _log.info("ready after %.1f s: %s on %s, %s kernels", seconds, model.name, model.device, model.kernels)
        except Exception as error:  # whatever stops the model from loading has to stop the process, in words
            self.failure = error
            on_failure()

    def infer(self, batch: PreprocessedImages) -> Reconstruction:
        """Run the network on one scene. Raises NonFiniteOutput or OutOfMemory."""
        with torch.inference_mode():
            try:
                return decode(self.net(batch.images.to(self.device)), batch)
            except ReconstructionError as error:
                raise NonFiniteOutput(f"The model gave no usable answer for these pictures: {error}") from None
            except torch.OutOfMemoryError:
                count = len(batch.images)
        # Outside of the handler, whose traceback would keep the tensors alive.
        torch.cuda.empty_cache()
        raise OutOfMemory(f"{count} pictures don't fit into the device's memory; send fewer.", pictures=count)

    @contextmanager
    def admit(self) -> Iterator[None]:
        """Hold one of the places for requests under way. Raises NotReady or QueueFull."""
        _ = self.net
        with self._lock:
            if self.admitted >= self.capacity:
                raise QueueFull(
                    f"{self.admitted} requests are under way and no more can wait.",
                    headers={"Retry-After": str(_RETRY_SECONDS)},
                    queue_capacity=self.capacity,
                )
            self.admitted += 1
        try:
            yield
        finally:
            with self._lock:
                self.admitted -= 1

    def run(self, batch: PreprocessedImages) -> Awaitable[Inference]:
        """`infer` in turn, off the event loop. Cancelled while it waits, it never runs."""
        submitted = time.perf_counter()

        def turn() -> Inference:
            started = time.perf_counter()
            reconstruction = self.infer(batch)
            return Inference(reconstruction, started - submitted, time.perf_counter() - started)

        return asyncio.get_running_loop().run_in_executor(self._network_thread, turn)

    def prepare(self, work: Callable[..., T], *arguments: Any) -> Awaitable[T]:
        """Run a picture's decoding, or the like, on a small pool of threads off the event loop."""
        return asyncio.get_running_loop().run_in_executor(self._picture_threads, work, *arguments)

    def close(self) -> None:
        """Let what runs end, drop what waits."""
        self._network_thread.shutdown(cancel_futures=True)
        self._picture_threads.shutdown(cancel_futures=True)


def _config(manifest: Mapping[str, Any], artifact: Path) -> VGGTConfig:
    try:
        config = VGGTConfig.from_dict(manifest["network"])
    except (ValueError, TypeError) as error:
        raise ArtifactError(f"the manifest of {artifact} is damaged: {error}") from None
    missing = {"camera", "depth"} - set(config.heads)
    if missing:
        raise ArtifactError(
            f"{artifact} holds a network without {' and '.join(sorted(missing))} head; quantise a checkpoint with both"
        )
    return config


def _digest(artifact: Path) -> str:
    """SHA-256 of the manifest; it holds the checksum of every tensor, so it stands for the whole artifact."""
    return "sha256:" + hashlib.sha256((artifact / "manifest.json").read_bytes()).hexdigest()
