from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.exports.records import OUTPUTS
from service.telemetry.metrics import Metrics
from tests.k8s.cluster import K8S
from tests.k8s.dashboard import ONLY_ON_A_GPU, dashboard_queries

MONITORING = K8S / "overlays" / "monitoring"
# Not the service's own: Prometheus's word on a target, and the kubelet's on a volume.
FOREIGN = {"up", "kubelet_volume_stats_available_bytes", "kubelet_volume_stats_capacity_bytes"}
_METRIC = re.compile(r"\b(?:(?:quantvggt[:_]|process_|kubelet_)[a-z0-9_:]+|up(?=\{))")


def rule_groups() -> dict[str, Any]:
    """The rules as Prometheus itself reads them."""
    specification: dict[str, Any] = yaml.safe_load((MONITORING / "rules.yaml").read_text())["spec"]
    return specification


def rules() -> list[dict[str, Any]]:
    return [rule for group in rule_groups()["groups"] for rule in group["rules"]]


@pytest.fixture
def promtool(tmp_path: Path) -> Path:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed; it comes with Prometheus")
    (tmp_path / "alerts.yml").write_text(yaml.safe_dump(rule_groups()))
    return tmp_path


def test_rules_are_well_formed(promtool: Path) -> None:
    finished = subprocess.run(
        ("promtool", "check", "rules", "alerts.yml"), cwd=promtool, capture_output=True, text=True
    )
    assert finished.returncode == 0, finished.stderr
    assert f"{len(rules())} rules found" in finished.stdout


def test_every_alert_fires_on_what_it_is_about_and_not_on_a_healthy_service(promtool: Path) -> None:
    cases = Path(__file__).with_name("alerts_test.yaml").read_text()
    (promtool / "cases.yaml").write_text(cases)
    finished = subprocess.run(
        ("promtool", "test", "rules", "cases.yaml"), cwd=promtool, capture_output=True, text=True
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    checks = [check for case in yaml.safe_load(cases)["tests"] for check in case["alert_rule_test"]]
    fired = {check["alertname"] for check in checks if check.get("exp_alerts")}
    assert fired == {rule["alert"] for rule in rules() if "alert" in rule}


def test_every_alert_is_explained_and_told_what_to_do_about() -> None:
    page = (K8S / "README.md").read_text()
    for rule in rules():
        if "alert" in rule:
            assert rule["labels"]["severity"] in ("critical", "warning")
            assert f"| `{rule['alert']}` |" in page


def test_every_metric_that_is_asked_for_exists() -> None:
    metrics = Metrics("cpu", 1, OUTPUTS)
    metrics.build.info({})
    exported = set(re.findall(r"^([a-z_]+)[{ ]", metrics.text().decode(), re.MULTILINE))
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    queries = [rule["expr"] for rule in rules()] + [
        query for each in dashboard_queries().values() for query in each
    ]
    (scaler,) = yaml.safe_load_all(
        (K8S / "overlays" / "autoscaling" / "scaled-object.yaml").read_text()
    )
    queries += [trigger["metadata"]["query"] for trigger in scaler["spec"]["triggers"]]
    for query in queries:
        asked = set(_METRIC.findall(query))
        assert asked, query
        assert asked <= exported | recorded | FOREIGN | ONLY_ON_A_GPU, query
