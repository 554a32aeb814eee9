"""Flags and environment variables become checked settings."""

from __future__ import annotations

import difflib
import logging
import os
import re
from collections.abc import Callable, Mapping
from typing import Any

from service.settings.agreement import objections
from service.settings.groups import FIELDS, GROUPS, Settings, fields
from service.settings.inference import folders
from service.settings.setting import SettingsError

PREFIX = "QUANTVGGT_"
OLD_PREFIX = "VGGT_"  # read for one release more
NOT_SETTINGS = ("QUANTVGGT_API_KEY", "QUANTVGGT_KERNELS", "QUANTVGGT_KERNEL_CACHE")
"""Variables with the same prefix that others read."""

_SERVICE_LINK = re.compile(
    r"\w+_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)

_log = logging.getLogger("service")


def names_a_setting(variable: str) -> bool:
    """Whether the environment variable of this name is one of the service's, known or not."""
    name = variable.upper()
    return name.startswith((PREFIX, OLD_PREFIX)) and name not in NOT_SETTINGS


def load_settings(flags: Mapping[str, Any], environ: Mapping[str, str] = os.environ) -> Settings:
    """Join `flags` (only those given) and the ``QUANTVGGT_…`` variables of `environ` into checked
    settings.

    Raises SettingsError for an unknown variable, a missing artifact or a bad value.
    """
    known = {PREFIX + name.upper(): name for name in FIELDS}
    variables: dict[str, str] = {}
    # Old names come last and win: whoever still sets one may run an image that brings the new ones
    # along as defaults.
    for key, value in sorted(
        environ.items(), key=lambda item: item[0].upper().startswith(OLD_PREFIX)
    ):
        if not names_a_setting(key) or _is_service_link(key.upper(), value):
            continue
        name = key.upper()
        if name.startswith(OLD_PREFIX):
            name = PREFIX + name.removeprefix(OLD_PREFIX)
            if name in known:
                _log.warning(
                    "%s is now called %s; the next release will not read the old name", key, name
                )
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(sorted(known))}."
            raise SettingsError(f"unknown environment variable {key}={value!r}; {hint}")
        if not value:
            raise SettingsError(
                f"environment variable {key} is empty; give it a value or unset it."
            )
        variables[known[name]] = value
    settings = _validated(
        _with_artifact(flags, variables), lambda name: _given(name, flags, variables)
    )
    for wrong, why in objections(settings):
        raise SettingsError(
            f"{why}." if wrong is None else f"{_given(wrong, flags, variables)}: {why}."
        )
    return settings


def _with_artifact(flags: Mapping[str, Any], variables: Mapping[str, str]) -> dict[str, Any]:
    """All values, `artifact` that of the first `model` where models are given in its place. Raises
    SettingsError."""
    values: dict[str, Any] = {**variables, **flags}
    if "model" in flags and "artifact" in flags:
        raise SettingsError("both --artifact and --model are given; leave one out.")
    if "artifact" in flags:
        values.pop("model", None)
    elif "model" in values:
        if isinstance(values["model"], str):
            values["model"] = values["model"].split(",")
        try:
            values["artifact"] = next(iter(folders(values["model"]).values()))
        except ValueError as error:
            raise SettingsError(f"{_given('model', flags, variables)}: {error}.") from None
    return values


def _is_service_link(name: str, value: str) -> bool:
    """Whether Kubernetes set this variable since a Service has the same name as we; see
    enableServiceLinks."""
    return bool(_SERVICE_LINK.fullmatch(name)) or (name.endswith("_PORT") and "://" in value)


def _validated(values: Mapping[str, Any], given: Callable[[str], str]) -> Settings:
    from pydantic import TypeAdapter, ValidationError

    unknown = set(values) - set(FIELDS)
    if unknown:
        name = min(unknown)
        raise SettingsError(f"{given(name)}: there is no such setting.")
    groups: dict[str, Any] = {}
    try:
        for name, group in GROUPS.items():
            own = {field: values[field] for field in fields(group) if field in values}
            groups[name] = TypeAdapter(group).validate_python(own)
        return Settings(**groups)
    except ValidationError as error:
        first = error.errors()[0]
    name = str(first["loc"][0])
    if first["type"] == "missing":
        raise SettingsError(
            f"no {name} was given; pass {_flag(name)} or set {PREFIX}{name.upper()}."
        )
    raise SettingsError(f"{given(name)}: {first['msg']}.")


def _given(name: str, flags: Mapping[str, Any], variables: Mapping[str, str]) -> str:
    """The setting and its value as whoever gave it wrote them."""
    if name in flags:
        values = flags[name] if isinstance(flags[name], list | tuple) else [flags[name]]
        return " ".join(f"{_flag(name)} {value}" for value in values)
    default = FIELDS[name].default if name in FIELDS else ""
    return f"{PREFIX}{name.upper()}={variables.get(name, default)}"


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
