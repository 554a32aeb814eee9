from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from service.settings import load_settings
from tests.k8s.cluster import (
    K8S,
    OVERLAYS,
    containers,
    environment,
    of_kind,
    pod_templates,
    quantity,
    render,
)

CUSTOM = {"ScaledObject", "ServiceMonitor", "PrometheusRule", "RayService"}
VERSIONS = ("1.33", kubernetes_validate.latest_version())
SERVING = ("cpu-demo", "gpu", "gpu-artifact-image", "replicas")


@pytest.fixture(params=OVERLAYS)
def objects(request: pytest.FixtureRequest) -> tuple[dict[str, Any], ...]:
    return render(request.param)


@pytest.fixture(params=SERVING)
def serving(request: pytest.FixtureRequest) -> tuple[dict[str, Any], ...]:
    return render(request.param)


def service_of(objects: tuple[dict[str, Any], ...]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The pod's specification and its container that serves."""
    (template,) = pod_templates(objects)
    (container,) = template["spec"]["containers"]
    return template["spec"], container


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_fits_the_schemas_of_kubernetes(
    objects: tuple[dict[str, Any], ...], version: str
) -> None:
    for item in objects:
        if item["kind"] not in CUSTOM:
            kubernetes_validate.validate(item, version, strict=True)
    for template in pod_templates(objects):  # those in custom resources too
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": template["metadata"],
            "spec": template["spec"],
        }
        kubernetes_validate.validate(pod, version, strict=True)


def test_a_misspelt_field_does_not_fit_the_schemas() -> None:
    (wrong,) = of_kind("Service", render("gpu"))
    wrong = {**wrong, "spec": {**wrong["spec"], "sessionAfinity": "ClientIP"}}
    with pytest.raises(kubernetes_validate.ValidationError, match="sessionAfinity"):
        kubernetes_validate.validate(wrong, VERSIONS[-1], strict=True)


@pytest.mark.parametrize("overlay", ["autoscaling", "monitoring"])
def test_custom_resources_fit_the_schemas_of_their_operators(overlay: str) -> None:
    models = Path(
        os.environ.get(
            "KUBERNETES_MODELS", K8S.parent / "build" / "kubernetes-models" / "node_modules"
        )
    )
    if not models.is_dir() or shutil.which("node") is None:
        pytest.skip("the operators' schemas are not here; `make k8s-check` fetches them")
    custom = [item for item in render(overlay) if item["kind"] in CUSTOM]
    assert custom
    command = ("node", str(Path(__file__).with_name("custom_resources.mjs")), str(models))
    for item in custom:
        finished = subprocess.run(command, input=json.dumps(item), capture_output=True, text=True)
        assert finished.returncode == 0, finished.stderr
        wrong = json.dumps({**item, "spec": "none"})
        assert subprocess.run(command, input=wrong, capture_output=True, text=True).returncode == 1


def test_every_container_is_hardened(objects: tuple[dict[str, Any], ...]) -> None:
    for template in pod_templates(objects):
        pod = template["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == 10001
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        for container in containers(template):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }


def test_requests_do_not_exceed_limits_and_memory_is_bounded(
    objects: tuple[dict[str, Any], ...],
) -> None:
    for template in pod_templates(objects):
        for container in containers(template):
            requests, limits = container["resources"]["requests"], container["resources"]["limits"]
            assert {"memory", "ephemeral-storage"} <= set(limits)
            assert {"cpu", "memory", "ephemeral-storage"} <= set(requests)
            for name in requests.keys() & limits.keys():
                assert quantity(requests[name]) <= quantity(limits[name]), name


def test_what_a_pod_keeps_in_tmp_fits_its_ephemeral_storage(
    objects: tuple[dict[str, Any], ...],
) -> None:
    for template in pod_templates(objects):
        empty = [
            volume["emptyDir"] for volume in template["spec"]["volumes"] if "emptyDir" in volume
        ]
        empty = [directory for directory in empty if directory.get("medium") != "Memory"]
        limit = min(
            quantity(container["resources"]["limits"]["ephemeral-storage"])
            for container in containers(template)
        )
        assert sum(quantity(directory["sizeLimit"]) for directory in empty) <= limit


def test_every_mount_has_a_volume_and_every_volume_a_mount(
    objects: tuple[dict[str, Any], ...],
) -> None:
    claims = {
        claim["metadata"]["name"]
        for workload in of_kind("StatefulSet", objects)
        for claim in workload["spec"].get("volumeClaimTemplates", [])
    }
    for template in pod_templates(objects):
        volumes = {volume["name"] for volume in template["spec"]["volumes"]}
        mounts = {
            mount["name"]
            for container in containers(template)
            for mount in container["volumeMounts"]
        } | _mounts_beside(template)
        assert mounts == volumes | claims


def _mounts_beside(template: dict[str, Any]) -> set[str]:
    """What Ray's autoscaler, which KubeRay puts into the head's pod, mounts there."""
    if template["metadata"]["labels"].get("quantvggt/role") != "ingress":
        return set()
    (service,) = of_kind("RayService", render("ray"))
    options = service["spec"]["rayClusterConfig"]["autoscalerOptions"]
    return {mount["name"] for mount in options["volumeMounts"]}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_selector_selects_what_is_there(overlay: str) -> None:
    own = render(overlay)
    everything = (*own, *render("gpu"), *render("quantize"))
    pods = [template["metadata"]["labels"] for template in pod_templates(everything)]
    services = [service["metadata"]["labels"] for service in of_kind("Service", everything)]
    for item in own:
        spec = item.get("spec", {})
        if item["kind"] == "Service":
            selector, candidates = spec["selector"], pods
        elif item["kind"] == "ServiceMonitor":
            selector, candidates = spec["selector"]["matchLabels"], services
        elif item["kind"] == "NetworkPolicy":
            selector, candidates = spec["podSelector"].get("matchLabels", {}), pods
        elif item["kind"] == "StatefulSet":
            selector, candidates = (
                spec["selector"]["matchLabels"],
                [spec["template"]["metadata"]["labels"]],
            )
        elif item["kind"] == "PodDisruptionBudget":
            selector, candidates = spec["selector"]["matchLabels"], pods
        else:
            continue
        assert any(selector.items() <= labels.items() for labels in candidates), (
            f"{item['kind']} {selector}"
        )


def test_the_service_never_sends_requests_to_a_quantiser() -> None:
    (service,) = of_kind("Service", render("gpu"))
    (quantiser,) = pod_templates(render("quantize"))
    assert not service["spec"]["selector"].items() <= quantiser["metadata"]["labels"].items()


def test_ports_are_found_by_the_names_that_others_use(serving: tuple[dict[str, Any], ...]) -> None:
    _, container = service_of(serving)
    names = {port["name"] for port in container["ports"]}
    (service,) = of_kind("Service", serving)
    assert {port["targetPort"] for port in service["spec"]["ports"]} <= names
    (policy, *_) = [
        item for item in render("network-policy") if item["metadata"]["name"] == "quantvggt"
    ]
    assert {port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]} <= names
    (monitor,) = of_kind("ServiceMonitor", render("monitoring"))
    assert {end["port"] for end in monitor["spec"]["endpoints"]} <= {
        port["name"] for port in service["spec"]["ports"]
    }
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["port"] in names


def test_probes_ask_different_questions(serving: tuple[dict[str, Any], ...]) -> None:
    _, container = service_of(serving)
    assert container["livenessProbe"]["httpGet"]["path"] == "/livez"
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert container["startupProbe"]["httpGet"]["path"] == "/readyz"
    assert (
        container["startupProbe"]["failureThreshold"] * container["startupProbe"]["periodSeconds"]
        >= 600
    )


def test_a_pod_has_time_to_drain(serving: tuple[dict[str, Any], ...]) -> None:
    pod, container = service_of(serving)
    # jobs, then connections, then the worker
    drain = 3 * int(environment(container)["QUANTVGGT_SHUTDOWN_TIMEOUT"])
    assert (
        pod["terminationGracePeriodSeconds"]
        > container["lifecycle"]["preStop"]["sleep"]["seconds"] + drain
    )


def test_variables_are_settings_of_the_service_with_values_that_it_takes(
    serving: tuple[dict[str, Any], ...],
) -> None:
    pod, container = service_of(serving)
    given = {
        name.removeprefix("QUANTVGGT_").lower(): value
        for name, value in environment(container).items()
    }
    # a Service called quantvggt would bring variables such as QUANTVGGT_PORT
    assert pod["enableServiceLinks"] is False
    settings = load_settings({**given, "device": "cpu"}, {})
    assert settings.inference.artifact.is_relative_to("/artifacts")


@pytest.mark.parametrize("overlay", ["cpu-demo", "gpu", "gpu-artifact-image"])
def test_results_that_are_kept_fit_the_disk(overlay: str) -> None:
    (workload,) = of_kind("StatefulSet", render(overlay))
    (claim,) = workload["spec"]["volumeClaimTemplates"]
    _, container = service_of(render(overlay))
    disk = quantity(claim["spec"]["resources"]["requests"]["storage"])
    assert int(environment(container)["QUANTVGGT_KEEP_BYTES"]) <= 0.8 * disk


def test_replicas_keep_nothing_on_disks_of_their_own_and_may_all_be_asked() -> None:
    (workload,) = of_kind("StatefulSet", render("replicas"))
    assert workload["spec"]["replicas"] >= 2
    assert "volumeClaimTemplates" not in workload["spec"]
    pod, container = service_of(render("replicas"))
    (data,) = [volume for volume in pod["volumes"] if volume["name"] == "data"]
    assert int(environment(container)["QUANTVGGT_CACHE_BYTES"]) <= 0.8 * quantity(
        data["emptyDir"]["sizeLimit"]
    )
    (service,) = of_kind("Service", render("replicas"))
    assert service["spec"]["sessionAffinity"] == "None"


def test_replicas_read_the_address_of_their_database_from_a_secret_and_may_call_it() -> None:
    pod, container = service_of(render("replicas"))
    (mount,) = [mount for mount in container["volumeMounts"] if mount["name"] == "database"]
    (volume,) = [volume for volume in pod["volumes"] if volume["name"] == "database"]
    assert Path(environment(container)["QUANTVGGT_DATABASE_FILE"]).parent == Path(
        mount["mountPath"]
    )
    assert mount["readOnly"] is True
    created = (K8S / "README.md").read_text()
    for secret in (volume["secret"]["secretName"], container["envFrom"][0]["secretRef"]["name"]):
        assert f"create secret generic {secret}" in created
    assert (
        f"--from-literal={Path(environment(container)['QUANTVGGT_DATABASE_FILE']).name}=" in created
    )
    (policy,) = [
        policy
        for policy in of_kind("NetworkPolicy", render("replicas"))
        if policy["metadata"]["name"] == "quantvggt-shared"
    ]
    assert policy["spec"]["podSelector"]["matchLabels"].items() <= pod_labels("replicas").items()
    assert {port["port"] for rule in policy["spec"]["egress"] for port in rule["ports"]} == {
        53,
        5432,
        443,
    }


def pod_labels(overlay: str) -> dict[str, str]:
    (template,) = pod_templates(render(overlay))
    labels: dict[str, str] = template["metadata"]["labels"]
    return labels


@pytest.mark.parametrize("overlay", ["gpu", "gpu-artifact-image", "replicas"])
def test_a_gpu_is_requested_and_used(overlay: str) -> None:
    _, container = service_of(render(overlay))
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert environment(container)["QUANTVGGT_DEVICE"] == "cuda:0"
    assert environment(container)["QUANTVGGT_REQUIRE_NATIVE_KERNELS"] == "true"


def test_the_service_cannot_change_its_artifact(serving: tuple[dict[str, Any], ...]) -> None:
    _, container = service_of(serving)
    (mount,) = [mount for mount in container["volumeMounts"] if mount["name"] == "artifact"]
    assert mount["readOnly"] is True


def test_the_quantiser_fills_the_volume_that_the_service_reads() -> None:
    (template,) = pod_templates(render("quantize"))
    (quantiser,) = template["spec"]["containers"]
    pod, service = service_of(render("gpu"))
    assert environment(service)["QUANTVGGT_ARTIFACT"] in quantiser["args"]
    (written,) = [
        item["persistentVolumeClaim"]
        for item in template["spec"]["volumes"]
        if item["name"] == "artifacts"
    ]
    (read,) = [
        item["persistentVolumeClaim"] for item in pod["volumes"] if item["name"] == "artifact"
    ]
    assert written["claimName"] == read["claimName"]
    assert read["claimName"] in {
        item["metadata"]["name"] for item in of_kind("PersistentVolumeClaim", render("gpu"))
    }


def test_the_autoscaler_scales_the_workload_that_is_there() -> None:
    (scaler,) = of_kind("ScaledObject", render("autoscaling"))
    target = scaler["spec"]["scaleTargetRef"]
    (workload,) = of_kind(target["kind"], render("replicas"))
    assert (target["apiVersion"], target["name"]) == (
        workload["apiVersion"],
        workload["metadata"]["name"],
    )
    # what an apply goes back to for a moment
    assert scaler["spec"]["minReplicaCount"] == workload["spec"]["replicas"]
    for trigger in scaler["spec"]["triggers"]:
        assert trigger["metadata"]["query"].startswith("max("), (
            "the queue is shared, so every replica tells all of it"
        )
    assert scaler["metadata"]["namespace"] == workload["metadata"]["namespace"]


def test_everything_in_the_namespace_is_closed_unless_a_policy_opens_it() -> None:
    policies = of_kind("NetworkPolicy", render("network-policy"))
    closed = [item["spec"] for item in policies if not item["spec"]["podSelector"]]
    assert closed == [{"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}]


@pytest.mark.parametrize("overlay", ["gpu", "gpu-artifact-image", "replicas", "ray"])
def test_pods_of_gpus_and_replicas_come_with_their_network_policy(overlay: str) -> None:
    policies = of_kind("NetworkPolicy", render(overlay))
    closed = [policy for policy in policies if policy["spec"]["podSelector"] == {}]
    assert closed, "what no policy names may be called by everybody"
    for template in pod_templates(render(overlay)):
        labels = template["metadata"]["labels"]
        opened = [
            policy["spec"]["ingress"]
            for policy in policies
            if policy not in closed
            and "ingress" in policy["spec"]
            and policy["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
        ]
        assert opened
        assert all(rule["from"] for rules in opened for rule in rules)


@pytest.mark.parametrize("overlay", SERVING)
def test_uploads_and_what_they_unpack_fit_into_tmp(overlay: str) -> None:
    pod, container = service_of(render(overlay))
    given = {
        name.removeprefix("QUANTVGGT_").lower(): value
        for name, value in environment(container).items()
    }
    settings = load_settings({**given, "device": "cpu"}, {})
    limits = settings.limits
    decoded = 2 * (limits.max_total_bytes + limits.max_unpacked_bytes)  # two at a time
    uploads = settings.queue.max_uploads * limits.max_total_bytes
    (tmp,) = [volume["emptyDir"] for volume in pod["volumes"] if volume["name"] == "tmp"]
    assert uploads + decoded <= quantity(tmp["sizeLimit"])


def test_the_first_start_makes_an_api_key_and_the_overlay_says_where(
    serving: tuple[dict[str, Any], ...],
) -> None:
    _, container = service_of(serving)
    given = environment(container)
    if "QUANTVGGT_DATABASE_FILE" in given:  # replicas share a secret
        assert "QUANTVGGT_FIRST_KEY" not in given
        assert "create secret generic quantvggt-keys" in (K8S / "README.md").read_text()
    else:
        said = f"exec quantvggt-0 -- cat {given['QUANTVGGT_FIRST_KEY']}"
        assert said in (K8S / "base" / "statefulset.yaml").read_text()
        assert said in (K8S / "README.md").read_text()
    assert given["QUANTVGGT_API_KEYS"]
