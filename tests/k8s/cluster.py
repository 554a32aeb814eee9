"""What an overlay applies, read as the cluster would: rendered by kubectl, with a few questions
asked often."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

K8S = Path(__file__).parents[2] / "k8s"
OVERLAYS = sorted(path.parent.name for path in (K8S / "overlays").glob("*/kustomization.yaml"))
_SUFFIXES = {"": 1.0, "m": 1e-3, "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30}


@cache
def render(overlay: str) -> tuple[dict[str, Any], ...]:
    """The objects of `overlay`."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed, which renders the overlays")
    command = ("kubectl", "kustomize", str(K8S / "overlays" / overlay))
    finished = subprocess.run(command, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    return tuple(yaml.safe_load_all(finished.stdout))


def of_kind(kind: str, objects: tuple[dict[str, Any], ...]) -> list[dict[str, Any]]:
    return [item for item in objects if item["kind"] == kind]


def pod_templates(objects: tuple[dict[str, Any], ...]) -> list[dict[str, Any]]:
    """Templates of the pods that workloads among `objects` make, those of Ray clusters included."""
    templates = [item["spec"]["template"] for item in objects if "template" in item.get("spec", {})]
    for service in of_kind("RayService", objects):
        cluster = service["spec"]["rayClusterConfig"]
        templates += [
            group["template"] for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])
        ]
    return templates


def containers(pod: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from pod["spec"].get("initContainers", [])
    yield from pod["spec"]["containers"]


def environment(container: dict[str, Any]) -> dict[str, str]:
    return {variable["name"]: variable["value"] for variable in container.get("env", [])}


def quantity(text: str) -> float:
    """A Kubernetes quantity such as 500m or 8Gi as a number."""
    match = re.fullmatch(r"([0-9.]+)([A-Za-z]*)", text)
    assert match, text
    return float(match[1]) * _SUFFIXES[match[2]]
