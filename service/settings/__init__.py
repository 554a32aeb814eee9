"""The service's settings: flags first, then ``QUANTVGGT_…`` environment variables, then the
defaults in the groups here.

Importing this costs next to nothing: the command line reads names, defaults and descriptions from
it for its help. Only `load_settings` brings in what checks a value.
"""

from __future__ import annotations

from service.settings.agreement import refinement_version
from service.settings.groups import FIELDS, GROUPS, Settings, fields, types
from service.settings.inference import ClusterSettings, InferenceSettings, ModelSettings
from service.settings.jobs import QueueSettings, StorageSettings
from service.settings.load import PREFIX, load_settings, names_a_setting
from service.settings.request import Limits, RefinementSettings
from service.settings.server import LOOPBACK, AccessSettings, ServerSettings
from service.settings.setting import SettingsError

__all__ = [
    "FIELDS",
    "GROUPS",
    "LOOPBACK",
    "PREFIX",
    "AccessSettings",
    "ClusterSettings",
    "InferenceSettings",
    "Limits",
    "ModelSettings",
    "QueueSettings",
    "RefinementSettings",
    "ServerSettings",
    "Settings",
    "SettingsError",
    "StorageSettings",
    "fields",
    "load_settings",
    "names_a_setting",
    "refinement_version",
    "types",
]
