"""The network behind the service: loaded once, warmed up and measured, one pass at a time."""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor

from kernels import DequantizedLinear, QuantizedLinear, kernel_path
from model import families
from model.errors import ReconstructionError
from model.files.artifact import load
from model.network.descriptor import described
from model.network.execution import autocast, fallbacks
from model.network.network import Network
from model.network.observation import observed
from model.network.prediction import Prediction
from model.network.threads import limit_threads
from model.reconstruct import Cameras, decode, known_to_network
from model.scene.preprocess import ImageTransform, PreprocessedImages
from service.errors import NonFiniteOutput, NotReady, OutOfMemory
from service.inference.activations import chosen_activations
from service.inference.cost import Cost, CostModel
from service.inference.device import DeviceHealth
from service.inference.gpu import prepare, sent
from service.inference.graphs import SHARE, PassGraphs, capture_for
from service.inference.memory import PeakMemory, free_budget
from service.inference.network_pass import Pass, tracks_of
from service.inference.plan import Planner
from service.inference.served import ServedNetwork, check_commercial
from service.inference.warm_up import warm_up
from service.result.document import ActivationsDocument, DomainDocument, ModelDocument
from service.settings import InferenceSettings, SettingsError
from service.states import NETWORK_STAGES

Observer = Callable[[str, float], None]

_log = logging.getLogger("service")


class Engine(ServedNetwork):
    """A quantised network on one device.

    The constructor reads only the manifest, so that a wrong path fails before anything listens;
    `load` reads the weights, runs the network a few times and learns from it what requests will
    cost. Both raise ArtifactError. `on_loss` is called, from any thread, if a loaded network is
    lost for good.
    """

    def __init__(self, settings: InferenceSettings) -> None:
        super().__init__(settings.artifact)
        self.settings = settings
        self.device = settings.device
        self.on_loss: Callable[[Exception], None] = lambda error: None
        self.planner = Planner(
            CostModel(self.patch_size, self.family.special_tokens(self.config)),
            settings.memory_budget,
            settings.pass_frames,
            settings.attention_keys or None,
        )
        self._peak: PeakMemory | None = None
        self._disturbed = False
        self._net: Network | None = None
        self._activations: ActivationsDocument | None = None
        self._graphs = PassGraphs(None, 0)
        self._schemes = {str(layer["scheme"]) for layer in self.manifest["layers"].values()}
        self._fallbacks: tuple[str, ...] | None = None
        self._bytes: int | None = None
        self.health = DeviceHealth(self.device, lambda error: self.on_loss(error))
        self.load_seconds = 0.0
        """What the last load took; another one takes about as long."""

    @property
    def fingerprint(self) -> str:
        """What two services have in common if they give the same answers."""
        return f"{self.digest} {self.settings.activations}"

    def document(self) -> ModelDocument:
        """What results and /capabilities say about the model."""
        provenance, domain = self.manifest["provenance"], self.manifest["domain"]
        found = self._fallbacks
        if found is None:
            found = fallbacks(None, self.manifest["execution"], self.device)
        sentences = list(found)
        if self._graphs.refusal is not None:
            sentences.append(f"short passes run without CUDA graphs: {self._graphs.refusal}")
        return ModelDocument(
            name=str(provenance.get("checkpoint") or self.artifact.resolve().name),
            artifact=self.digest,
            family=self.family.name,
            size=families.size_of(self.config),
            weights_licence=provenance.get("weights_licence"),
            commercial_use=provenance.get("commercial_use"),
            licence_source=provenance.get("licence_source"),
            device=self.device,
            kernels=str(kernel_path(self.device)),
            precision=", ".join(sorted(self._schemes)),
            activations=self._activations,
            domain=None if domain is None else DomainDocument.model_validate(domain),
            fallbacks=sentences,
        )

    @property
    def lanes(self) -> int:
        """How many passes may run at a time."""
        return 1

    @property
    def replicas(self) -> dict[str, int]:
        """How many copies of the network run and how many are being started."""
        return {"running": int(self.ready), "starting": int(not self.ready)}

    @property
    def ready(self) -> bool:
        return self._net is not None

    def check_ready(self) -> None:
        """Raises NotReady while no pass can run."""
        if not self.ready:
            raise NotReady("The model is still being loaded.")

    @property
    def net(self) -> Network:
        """The loaded network. Raises NotReady before."""
        self.check_ready()
        assert self._net is not None
        return self._net

    def check_licence(self) -> None:
        """Raises SettingsError if weights must be free for commercial use and these are not known
        to be."""
        if self.settings.require_commercial:
            check_commercial(self.document())

    def check_kernels(self) -> None:
        """Raises SettingsError if native kernels are required and others would run."""
        kernels = kernel_path(self.device)
        if self.settings.require_native_kernels and not kernels.native:
            raise SettingsError(f"native kernels are required, but what runs here is {kernels}.")

    def load(self) -> None:
        """Read the weights; the first time also warm up, so that costs can be predicted."""
        started = time.perf_counter()
        threads = limit_threads(self.settings.threads)
        # points are made from depth: those of a head of their own would be read by nobody
        known = self._activations
        chosen = known or chosen_activations(self.artifact, self.device, self.settings.activations)
        self._activations = chosen
        net = load(self.artifact, self.device, without=("point",), wide_activations=chosen.wide)
        prepare(net, torch.device(self.device), self.image_size)
        self._describe(net)
        self.load_seconds = time.perf_counter() - started
        budget = free_budget(self.device)
        self.measure_afresh()
        if known is None:
            if self.planner.budget is None:
                self.planner.budget = budget
            self._share_with_graphs()
            warm_up(partial(self._measure, net), self.planner, self.image_size, self.patch_size)
        self._net = net
        model = self.document()
        _log.info(
            "ready after %.1f s: %s on %s, %s kernels, %d threads; a pass may take %s bytes",
            time.perf_counter() - started, model.name, model.device, model.kernels, threads,
            self.planner.budget,
        )  # fmt: skip
        for sentence in model.fallbacks:
            _log.warning("%s", sentence)

    def unload(self) -> None:
        """Let go of the weights, but not of what was learnt from them; no pass may be running."""
        self._net = None
        self._graphs.clear()
        gc.collect()  # a network is full of circles
        if torch.device(self.device).type == "cuda":
            torch.cuda.empty_cache()

    def measure_afresh(self, disturbed: bool = False) -> None:
        """From here on peaks of passes are above what the device holds now; nothing is learnt from
        passes that run while it is `disturbed` by something else that takes memory."""
        self._peak = PeakMemory(self.device)
        self._disturbed = disturbed

    def plan_within(self, budget: int) -> None:
        """From here on a pass, with what graphs hold, may take so many bytes."""
        self.planner.budget = max(budget - self._graphs.allowance, 1)

    @property
    def bytes(self) -> int:
        """What the weights take: on disk, or once they were loaded, in memory."""
        if self._bytes is not None:
            return self._bytes
        return sum(file.stat().st_size for file in self.artifact.glob("*.safetensors"))

    def _describe(self, net: Network) -> None:
        """Keep what is known of a network only once it is loaded."""
        kinds = (QuantizedLinear, DequantizedLinear)
        self._schemes = {part.arithmetic for part in net.modules() if isinstance(part, kinds)}
        self._fallbacks = fallbacks(net, self.manifest["execution"], self.device)
        self._bytes = sum(tensor.nbytes for tensor in (*net.parameters(), *net.buffers()))

    def _share_with_graphs(self) -> None:
        """Takes what graphs may hold from what a pass may take."""
        capture = capture_for(torch.device(self.device))
        if capture is not None and self.planner.budget is not None:
            self._graphs = PassGraphs(capture, self.planner.budget // SHARE)
            self.planner.budget -= self._graphs.allowance

    def close(self) -> None:
        """Release what `load` has started outside of this process: here, nothing."""

    def _measure(self, net: Network, frames: int, side: int) -> Cost:
        """The cost of a pass over grey pictures of `side` pixels."""
        assert self._peak is not None
        transform = ImageTransform((side, side), (side, side), (1.0, 1.0), (0.0, 0.0))
        images = torch.full((frames, 3, side, side), 0.5)
        batch = PreprocessedImages(images, (transform,) * frames)
        with torch.inference_mode(), self._peak.measured():
            started = time.perf_counter()
            with autocast(self.device):
                prediction = net(images.to(self.device))
            self._wait()
            seconds = time.perf_counter() - started
            with suppress(ReconstructionError):  # of a grey picture; requests are told if of theirs
                decode(self.config, prediction, batch)
        return Cost(self._peak.bytes, seconds)

    def infer(
        self,
        batch: PreprocessedImages,
        observer: Observer = lambda stage, share: None,
        query_points: Tensor | None = None,
        describe: bool = False,
        attention_keys: int | None = None,
        cameras: Cameras | None = None,
    ) -> Pass:
        """One pass. `query_points` `[N, 2]` are network pixels of the first frame, centres counting
        from 0.

        `describe` asks for descriptors, which only a scene of several passes has a use for.
        `attention_keys` is about how many tokens attention over the scene looks at; None: all.
        `cameras` are known ones of all pictures, which only a network that `takes_cameras` is told;
        the scene is not moved onto them.

        Raises NonFiniteOutput, OutOfMemory, DeviceLost, NoTracks, InvalidOption, and whatever
        `observer` raises to stop it.
        """
        if query_points is not None:
            self.check_tracks(*batch.images.shape[-2:])
        try:
            return self._infer(batch, observer, query_points, describe, attention_keys, cameras)
        except ReconstructionError as error:
            raise NonFiniteOutput(
                f"The model gave no usable answer for these pictures: {error}"
            ) from None
        except (torch.OutOfMemoryError, MemoryError):
            count = len(batch.images)
        except RuntimeError as error:
            self.health.check(error)
            # what the CPU allocator says, for want of a class of its own
            if "allocate memory" not in str(error):
                raise
            count = len(batch.images)
        # Outside of the handler, whose traceback would keep the tensors alive.
        self._graphs.clear()
        if torch.device(self.device).type == "cuda":
            torch.cuda.empty_cache()
        raise OutOfMemory(
            f"{count} pictures don't fit into the device's memory; send fewer.", pictures=count
        )

    def _infer(
        self,
        batch: PreprocessedImages,
        observer: Observer,
        query_points: Tensor | None,
        describe: bool,
        attention_keys: int | None,
        cameras: Cameras | None,
    ) -> Pass:
        net, peak, disturbed = self.net, self._peak, self._disturbed
        assert peak is not None
        marks = [time.perf_counter()]

        def watch(stage: str, share: float) -> None:
            if stage == "aggregator" and share == 1.0:
                self._wait()
                marks.append(time.perf_counter())
            observer(stage, share)

        with torch.inference_mode(), peak.measured():
            images = sent(batch.images, torch.device(self.device))
            queries = None if query_points is None else query_points.to(self.device)
            known = known_to_network(cameras, batch, self.device)
            self._wait()
            marks.append(time.perf_counter())
            describing: AbstractContextManager[list[Tensor]] = (
                described(net) if describe else nullcontext([])
            )
            graphed = None
            if queries is None and not describe and not known:
                graphed = self._graphed(images, attention_keys)
            if graphed is not None:
                prediction, descriptors = graphed[0], []
                for stage in NETWORK_STAGES[1:]:
                    observer(stage, 1.0)
            else:
                watching = observed(net, watch, queries is not None)
                with watching, describing as descriptors, autocast(self.device):
                    prediction = net(images, queries, attention_keys, **known)
            self._wait()
            marks.append(time.perf_counter())
            reconstruction = decode(self.config, prediction, batch)
            marks.append(time.perf_counter())
        tracks = None if queries is None else tracks_of(prediction)
        if len(marks) == 4:  # a pass that can't be watched: all of it counts as aggregator
            marks.insert(3, marks[2])
        seconds = {
            stage: b - a
            for stage, (a, b) in zip((*NETWORK_STAGES, "post"), pairwise(marks), strict=True)
        }
        bytes = peak.bytes if graphed is None else graphed[1]
        done = Pass(reconstruction, descriptors[0] if describe else None, tracks, seconds, bytes)
        self.health.worked()
        if graphed is None and not disturbed and peak is self._peak:
            self._learn(batch, query_points, attention_keys, done)
        return done

    def _graphed(self, images: Tensor, attention_keys: int | None) -> tuple[Prediction, int] | None:
        """The prediction from a graph, and the bytes that it holds; None without a graph."""

        def forward(given: Tensor) -> Prediction:
            with autocast(self.device):
                return self.net(given, None, attention_keys)

        frames, _, height, width = images.shape
        expected = self.planner.model.predict(frames, height, width, attention_keys).bytes
        return self._graphs.run((images.shape, attention_keys), images, forward, expected)

    def _learn(
        self,
        batch: PreprocessedImages,
        query_points: Tensor | None,
        attention_keys: int | None,
        done: Pass,
    ) -> None:
        # what tracking takes besides would mislead the plans of requests without
        if query_points is None:
            frames, _, height, width = batch.images.shape
            self.planner.model.observe(frames, height, width, done.cost, attention_keys)

    def _wait(self) -> None:
        """Let the device finish, so that clocks tell the truth."""
        if torch.device(self.device).type == "cuda":
            torch.cuda.synchronize(self.device)
