"""All settings, in groups."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

from service.settings.inference import ClusterSettings, InferenceSettings, ModelSettings, folders
from service.settings.jobs import QueueSettings, StorageSettings
from service.settings.request import Limits, RefinementSettings
from service.settings.server import AccessSettings, ServerSettings


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that can be set, by groups; a room of the service is handed the group that it
    needs. Values are checked by `load_settings`."""

    inference: InferenceSettings
    models: ModelSettings = dataclasses.field(default_factory=ModelSettings)
    cluster: ClusterSettings = dataclasses.field(default_factory=ClusterSettings)
    server: ServerSettings = dataclasses.field(default_factory=ServerSettings)
    access: AccessSettings = dataclasses.field(default_factory=AccessSettings)
    limits: Limits = dataclasses.field(default_factory=Limits)
    refinement: RefinementSettings = dataclasses.field(default_factory=RefinementSettings)
    queue: QueueSettings = dataclasses.field(default_factory=QueueSettings)
    storage: StorageSettings = dataclasses.field(default_factory=StorageSettings)

    @classmethod
    def of(cls, **values: Any) -> Settings:
        """From single settings by their names, as flags and variables give them. Checks nothing."""
        unknown = set(values) - set(FIELDS)
        if unknown:
            raise TypeError(f"there are no settings {', '.join(sorted(unknown))}")
        groups = {
            name: group(**{field: values[field] for field in fields(group) if field in values})
            for name, group in GROUPS.items()
        }
        return cls(**groups)

    @property
    def artifacts(self) -> dict[str, Path]:
        """The folders of the models that are served, by their names, the usual one first."""
        artifact = self.inference.artifact
        return folders(self.models.model) or {artifact.resolve().name: artifact}


GROUPS: dict[str, type[Any]] = {
    "inference": InferenceSettings,
    "models": ModelSettings,
    "cluster": ClusterSettings,
    "server": ServerSettings,
    "access": AccessSettings,
    "limits": Limits,
    "refinement": RefinementSettings,
    "queue": QueueSettings,
    "storage": StorageSettings,
}


def fields(group: type[Any]) -> dict[str, dataclasses.Field[Any]]:
    """The settings of a group by their names."""
    return {field.name: field for field in dataclasses.fields(group)}


FIELDS: dict[str, dataclasses.Field[Any]] = {
    name: field for group in GROUPS.values() for name, field in fields(group).items()
}
"""Every setting by its name; flags and environment variables are called after it."""


def types() -> dict[str, Any]:
    """The type of every setting."""
    return {name: kind for group in GROUPS.values() for name, kind in get_type_hints(group).items()}
