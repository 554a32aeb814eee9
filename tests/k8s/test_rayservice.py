"""The overlay `ray`: what its one custom resource says to KubeRay, to Ray Serve and to the
service."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest
import yaml

from service.settings import load_settings
from tests.k8s.cluster import K8S, of_kind, quantity, render

# RayService of ray.io/v1 as KubeRay 1.5 documents it; no registry that is used here carries its
# schema. The pods in it are checked against those of Kubernetes in test_overlays.
FIELDS = {
    "": {
        "upgradeStrategy", "serveConfigV2", "rayClusterConfig", "serveService",
        "rayClusterDeletionDelaySeconds",
    },
    "rayClusterConfig": {
        "rayVersion", "authOptions", "enableInTreeAutoscaling", "autoscalerOptions",
        "headGroupSpec", "workerGroupSpecs",
    },
    "autoscalerOptions": {
        "resources", "image", "imagePullPolicy", "env", "envFrom", "volumeMounts",
        "securityContext", "idleTimeoutSeconds", "upscalingMode", "version",
    },
    "headGroupSpec": {"serviceType", "headService", "enableIngress", "rayStartParams", "template"},
    "workerGroupSpec": {
        "groupName", "replicas", "minReplicas", "maxReplicas", "numOfHosts", "rayStartParams",
        "template", "scaleStrategy", "idleTimeoutSeconds",
    },
}  # fmt: skip


@pytest.fixture
def spec() -> dict[str, Any]:
    (service,) = of_kind("RayService", render("ray"))
    assert service["apiVersion"] == "ray.io/v1"
    return service["spec"]


@pytest.fixture
def application(spec: dict[str, Any]) -> dict[str, Any]:
    (application,) = yaml.safe_load(spec["serveConfigV2"])["applications"]
    return application


def test_every_field_is_one_that_kuberay_knows(spec: dict[str, Any]) -> None:
    cluster = spec["rayClusterConfig"]
    assert set(spec) <= FIELDS[""]
    assert set(cluster) <= FIELDS["rayClusterConfig"]
    assert set(cluster["autoscalerOptions"]) <= FIELDS["autoscalerOptions"]
    assert set(cluster["headGroupSpec"]) <= FIELDS["headGroupSpec"]
    for group in cluster["workerGroupSpecs"]:
        assert set(group) <= FIELDS["workerGroupSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        # flags of `ray start`
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())


def test_the_autoscaler_beside_the_head_is_hardened_too(spec: dict[str, Any]) -> None:
    options = spec["rayClusterConfig"]["autoscalerOptions"]
    head = spec["rayClusterConfig"]["headGroupSpec"]["template"]["spec"]["containers"][0]
    assert options["securityContext"] == head["securityContext"]
    assert options["resources"]["limits"]["memory"]


def test_only_the_autoscaler_has_a_token_for_the_clusters_api(spec: dict[str, Any]) -> None:
    cluster = spec["rayClusterConfig"]
    pod = cluster["headGroupSpec"]["template"]["spec"]
    (token,) = [volume["name"] for volume in pod["volumes"] if "projected" in volume]
    (mount,) = cluster["autoscalerOptions"]["volumeMounts"]
    assert (mount["name"], mount["mountPath"]) == (
        token,
        "/var/run/secrets/kubernetes.io/serviceaccount",
    )
    for container in pod["containers"]:
        assert token not in {mount["name"] for mount in container["volumeMounts"]}


def test_ray_serve_accepts_its_configuration_and_the_service_builds_from_it(
    spec: dict[str, Any], application: dict[str, Any]
) -> None:
    code = (
        "import json, sys\n"
        "from importlib import import_module\n"
        "from ray.serve.schema import ServeDeploySchema\n"
        "configuration = json.load(sys.stdin)\n"
        "ServeDeploySchema.model_validate(configuration)\n"
        "(application,) = configuration['applications']\n"
        "module, _, name = application['import_path'].partition(':')\n"
        "from service.ray.ingress import RESOURCE\n"
        "print(RESOURCE, type(getattr(import_module(module), "
        "name)(application['args'])).__name__)\n"
    )
    finished = subprocess.run(
        [sys.executable, "-c", code], cwd=K8S.parent,
        input=json.dumps(yaml.safe_load(spec["serveConfigV2"])), capture_output=True, text=True,
        env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0"},
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    resource, kind = finished.stdout.split()
    assert kind == "Application"
    head = spec["rayClusterConfig"]["headGroupSpec"]["rayStartParams"]
    # quoted once more, for the shell
    assert json.loads(json.loads(head["resources"])) == {resource: 1}
    assert head["num-cpus"] == "0"


def test_the_pods_have_what_the_replicas_ask_for(
    spec: dict[str, Any], application: dict[str, Any]
) -> None:
    settings = load_settings({"engine": "ray", **application["args"]}, {}).cluster
    (group,) = spec["rayClusterConfig"]["workerGroupSpecs"]
    (container,) = group["template"]["spec"]["containers"]
    assert (group["minReplicas"], group["maxReplicas"]) == (
        settings.min_replicas,
        settings.replicas,
    )
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert settings.replica_cpus == int(group["rayStartParams"]["num-cpus"])
    assert quantity(container["resources"]["requests"]["cpu"]) >= settings.replica_cpus


def test_jobs_results_and_objects_fit_where_they_are_put(
    spec: dict[str, Any], application: dict[str, Any]
) -> None:
    cluster = spec["rayClusterConfig"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        volumes = {volume["name"]: volume for volume in group["template"]["spec"]["volumes"]}
        (container,) = group["template"]["spec"]["containers"]
        mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        shared = quantity(volumes[mounts["/dev/shm"]]["emptyDir"]["sizeLimit"])
        assert (
            int(group["rayStartParams"]["object-store-memory"])
            < shared
            < quantity(container["resources"]["limits"]["memory"])
        )
        assert "/tmp" in mounts  # Ray's sockets and logs, since the root can't be written to
    (claim,) = [
        item
        for item in of_kind("PersistentVolumeClaim", render("ray"))
        if item["metadata"]["name"] == "quantvggt-data"
    ]
    assert application["args"]["data_dir"] in [
        mount["mountPath"]
        for mount in cluster["headGroupSpec"]["template"]["spec"]["containers"][0]["volumeMounts"]
        if mount["name"] == "data"
    ]
    assert application["args"]["keep_bytes"] <= 0.8 * quantity(
        claim["spec"]["resources"]["requests"]["storage"]
    )


def test_there_is_never_a_second_cluster_on_the_same_disk(spec: dict[str, Any]) -> None:
    assert spec["upgradeStrategy"] == {"type": "None"}
    assert not of_kind("StatefulSet", render("ray"))


def test_requests_reach_the_head_and_nobody_else_reaches_ray(spec: dict[str, Any]) -> None:
    objects = render("ray")
    head = spec["rayClusterConfig"]["headGroupSpec"]["template"]
    names = {port["name"]: port["containerPort"] for port in head["spec"]["containers"][0]["ports"]}
    (service,) = of_kind("Service", objects)
    assert service["spec"]["selector"].items() <= head["metadata"]["labels"].items()
    assert {port["targetPort"] for port in service["spec"]["ports"]} <= set(names)
    assert names["serve"] == yaml.safe_load(spec["serveConfigV2"])["http_options"]["port"]
    labels = "matchLabels"
    policies = of_kind("NetworkPolicy", objects)
    assert {} in [policy["spec"]["podSelector"] for policy in policies]  # nobody else, nowhere
    of_ray = [
        policy
        for policy in policies
        if "quantvggt/role" in policy["spec"]["podSelector"].get(labels, {})
    ]
    roles = {policy["spec"]["podSelector"][labels]["quantvggt/role"] for policy in of_ray}
    assert roles == {"ingress", "replica"}
    for policy in of_ray:
        for rule in policy["spec"]["ingress"]:
            assert rule["from"]
            assert {port["port"] for port in rule.get("ports", [])} <= set(names)
