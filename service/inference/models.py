"""The networks that this service has: loaded when they are needed, as many at a time as memory
admits."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from model.errors import ArtifactError
from service.errors import InvalidOption, ModelUnavailable, NotReady
from service.inference.engine import Engine
from service.inference.memory import free_budget
from service.settings import InferenceSettings, Settings, SettingsError

_log = logging.getLogger("service")


class Models:
    """Engines by the names that requests give them; the first is the usual one.

    One by itself is loaded at the start and stays. Of several, `load` loads each in turn, since
    what a request costs is only known of a network that has run; from then on those that have been
    unused for longest leave when another one would take more than `memory` bytes with them. One
    that runs a pass stays.
    """

    def __init__(self, engines: Mapping[str, Engine], memory: int | None = None) -> None:
        self.engines = dict(engines)
        self.memory = memory
        self._ready = False
        self._changed = threading.Condition()
        self._loading: set[str] = set()
        self._users: Counter[str] = Counter()
        self._used = dict.fromkeys(self.engines, 0.0)  # monotonic
        self.on_load: Callable[[str], None] = lambda name: None

    @classmethod
    def of(cls, settings: Settings, engine: Callable[[InferenceSettings], Engine]) -> Models:
        """The models of `settings`, each behind an `engine` of its own. Raises ArtifactError."""
        inference = settings.inference
        engines = {
            name: engine(replace(inference, artifact=folder))
            for name, folder in settings.artifacts.items()
        }
        return cls(engines, settings.models.model_memory)

    # Which there are

    @property
    def several(self) -> bool:
        """Whether a request has a choice."""
        return len(self.engines) > 1

    @property
    def usual_name(self) -> str:
        """The name of the model of requests that name none."""
        return next(iter(self.engines))

    @property
    def usual(self) -> Engine:
        """The model of requests that name none."""
        return self.engines[self.usual_name]

    def asked(self, name: str | None) -> Engine:
        """The model that a request wants. Raises InvalidOption."""
        if name is not None and name not in self.engines:
            raise InvalidOption(
                f"There is no model {name!r}; the models are {', '.join(self.engines)}.",
                option="model",
            )
        return self.usual if name is None else self.engines[name]

    def recorded(self, name: str | None) -> str:
        """The name of the model that a job was accepted for; None for the usual one. Raises
        ModelUnavailable if it is not served any more."""
        if name is not None and name not in self.engines:
            raise ModelUnavailable(
                f"This reconstruction was to be made with the model {name}, which is not served "
                f"any more; send it again for one of {', '.join(self.engines)}."
            )
        return name or self.usual_name

    # What holds for all of them

    @property
    def lanes(self) -> int:
        """How many passes may run at a time."""
        return self.usual.lanes

    @property
    def replicas(self) -> dict[str, int]:
        """How many copies of networks run and how many are being started."""
        if not self.several:
            return self.usual.replicas
        running = sum(engine.ready for engine in self.engines.values())
        return {"running": running, "starting": len(self._loading)}

    @property
    def ready(self) -> bool:
        return self._ready if self.several else self.usual.ready

    def check_ready(self) -> None:
        """Raises NotReady while no pass can run."""
        if not self.several:
            self.usual.check_ready()
        elif not self._ready:
            raise NotReady("The models are still being loaded.")

    def check_licences(self) -> None:
        """Raises SettingsError if weights must be free for commercial use and some are not known to
        be."""
        for engine in self.engines.values():
            engine.check_licence()

    def check_kernels(self) -> None:
        """Raises SettingsError if native kernels are required and others would run."""
        for engine in self.engines.values():
            engine.check_kernels()

    def check_memory(self) -> None:
        """Raises SettingsError if one of the models is larger than what all may take together."""
        for name, engine in self.engines.items():
            if self.memory is not None and engine.bytes > self.memory:
                raise SettingsError(
                    f"--model-memory {self.memory}: the model {name} takes {engine.bytes} bytes by "
                    "itself; allow at least as many."
                )

    def on_loss(self, tell: Callable[[Exception], None]) -> None:
        """Have `tell` called, from any thread, if a loaded network is lost for good."""
        for engine in self.engines.values():
            engine.on_loss = tell

    # From start to stop

    def load(self) -> None:
        """Load the models; the usual one last, so that it is there. Raises ArtifactError,
        SettingsError and what else loading raises."""
        for name in reversed(self.engines):
            with self._changed:
                self._reserve(name)
            self._load_reserved(name)
            self.check_memory()
        if self.several:
            self._share_memory()
        self._ready = True

    def close(self) -> None:
        """Release what `load` has started outside of this process."""
        for engine in self.engines.values():
            engine.close()

    @contextmanager
    def loaded(self, name: str) -> Iterator[Engine]:
        """Within the context the model is loaded. Raises ModelUnavailable if its files can't be
        read any more, DeviceLost."""
        with self._changed:
            to_load = self.several and self._reserve(name)
            self._users[name] += 1
        try:
            if to_load:
                try:
                    self._load_reserved(name)
                except (ArtifactError, OSError) as error:
                    raise ModelUnavailable(f"The model {name} can't be loaded: {error}") from None
                except RuntimeError as error:
                    self.engines[name].health.check(error)
                    raise
            yield self.engines[name]
        finally:
            with self._changed:
                self._users[name] -= 1
                self._used[name] = time.monotonic()
                self._changed.notify_all()

    def seconds_to_load(self, engine: Engine) -> float:
        """What a job has to wait for its model as things are now."""
        return 0.0 if engine.ready else engine.load_seconds

    def _reserve(self, name: str) -> bool:
        """With the lock held: wait until the model is there, or there is room for it. True: whoever
        asked is the one who loads it."""
        while name in self._loading or not self.engines[name].ready:
            leaving = None if name in self._loading else self._in_the_way(name)
            if leaving is None:
                self._changed.wait()
                continue
            for other in leaving:
                self.engines[other].unload()
                _log.info("the model %s makes room for %s", other, name)
            self._loading.add(name)
            self._tell_disturbed()
            return True
        return False

    def _load_reserved(self, name: str) -> None:
        """Without the lock, so that passes of others begin and end meanwhile."""
        try:
            self.engines[name].load()
        finally:
            with self._changed:
                self._loading.discard(name)
                self._used[name] = time.monotonic()
                self._tell_disturbed()
                self._changed.notify_all()
        self.on_load(name)

    def _tell_disturbed(self) -> None:
        """With the lock held: while a model is loaded, what passes of others take is not known."""
        if self.several:
            for engine in filter(lambda each: each.ready, self.engines.values()):
                engine.measure_afresh(disturbed=bool(self._loading))

    def _in_the_way(self, name: str) -> list[str] | None:
        """Who has to leave before the model is loaded, unused for longest first; None if too much
        is in use for now."""
        if self.memory is None:
            return []
        there = {
            other: engine.bytes
            for other, engine in self.engines.items()
            if engine.ready or other in self._loading
        }
        surplus = sum(there.values()) + self.engines[name].bytes - self.memory
        leaving = []
        for other in sorted(there, key=lambda each: self._used[each]):
            if surplus > 0 and not self._users[other]:
                leaving.append(other)
                surplus -= there[other]
        return None if surplus > 0 and any(self._users[other] for other in there) else leaving

    def _share_memory(self) -> None:
        """Leave room for all models that may be loaded beside a pass."""
        engines = self.engines.values()
        loaded = sum(engine.bytes for engine in engines if engine.ready)
        most = sum(engine.bytes for engine in engines)
        further = min(self.memory or most, most) - loaded
        budget = free_budget(self.usual.device)
        for engine in engines:
            if engine.settings.memory_budget is None and budget is not None:
                engine.plan_within(budget - further)
