from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.settings import ServerSettings

DOCKER = Path(__file__).parents[2] / "docker"
COMPOSE: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_every_container_is_hardened(name: str) -> None:
    container = COMPOSE["services"][name]
    assert container["read_only"] is True
    assert container["cap_drop"] == ["ALL"]
    assert container["security_opt"] == ["no-new-privileges:true"]
    assert container["tmpfs"] == ["/tmp"]


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_ports_are_open_to_this_machine_only(name: str) -> None:
    assert all(port.startswith("127.0.0.1:") for port in COMPOSE["services"][name].get("ports", []))


def test_what_is_mounted_from_the_checkout_exists() -> None:
    for container in COMPOSE["services"].values():
        for volume in container["volumes"]:
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (DOCKER / source).is_file(), source
            else:
                assert source.startswith("${") or source in COMPOSE["volumes"]


def test_the_service_is_stopped_no_earlier_than_it_has_drained() -> None:
    (seconds,) = re.findall(r"^(\d+)s$", COMPOSE["services"]["service"]["stop_grace_period"])
    assert int(seconds) > 3 * ServerSettings().shutdown_timeout


def test_the_first_start_makes_an_api_key_where_it_stays_and_the_file_says_where() -> None:
    service = COMPOSE["services"]["service"]
    assert service["environment"]["QUANTVGGT_API_KEYS"].startswith("/data/")
    first = service["environment"]["QUANTVGGT_FIRST_KEY"]
    assert first.startswith("/data/")
    assert any(volume.endswith(":/data") for volume in service["volumes"])
    assert f"exec service cat {first}" in (DOCKER / "compose.yaml").read_text()


def test_the_demo_is_served_from_where_the_quantiser_leaves_it() -> None:
    quantizer, service = COMPOSE["services"]["quantizer"], COMPOSE["services"]["service"]
    (volume,) = quantizer["volumes"]
    place = service["environment"]["QUANTVGGT_ARTIFACT"].replace("${MODEL:-demo}", "demo")
    assert place in quantizer["command"]
    assert "${ARTIFACTS:-" + volume.split(":")[0] + "}:/artifacts:ro" in service["volumes"]


def test_prometheus_scrapes_the_service_and_alerts_by_the_rules_of_the_cluster(
    tmp_path: Path,
) -> None:
    configuration = yaml.safe_load((DOCKER / "prometheus.yml").read_text())
    (scrape,) = configuration["scrape_configs"]
    assert scrape["job_name"] == "quantvggt"
    assert scrape["static_configs"] == [{"targets": ["service:8000"]}]

    prometheus = COMPOSE["services"]["prometheus"]
    (rules,) = [
        volume.split(":")[0]
        for volume in prometheus["volumes"]
        if volume.endswith(":/rules.yaml:ro")
    ]
    (command,) = prometheus["command"]
    cut = command.split(" && ")[0].replace("$$", "$").replace("/rules.yaml", str(DOCKER / rules))
    assert configuration["rule_files"] == [cut.split(" > ")[1]]
    written = subprocess.run(
        ("sh", "-c", cut.split(" > ")[0]), capture_output=True, text=True, check=True
    ).stdout
    assert yaml.safe_load(written) == yaml.safe_load((DOCKER / rules).read_text())["spec"]


def test_prometheus_takes_its_configuration(tmp_path: Path) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed; it comes with Prometheus")
    command = ("promtool", "check", "config", "--syntax-only", str(DOCKER / "prometheus.yml"))
    finished = subprocess.run(command, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
