"""What the dashboard asks Prometheus."""

from __future__ import annotations

import json

from tests.k8s.cluster import K8S

ONLY_ON_A_GPU = {"quantvggt_gpu_memory_bytes"}


def dashboard_queries() -> dict[str, list[str]]:
    """Queries by the title of their panel."""
    panels = json.loads((K8S / "overlays" / "monitoring" / "dashboard.json").read_text())["panels"]
    return {panel["title"]: [target["expr"] for target in panel["targets"]] for panel in panels}
