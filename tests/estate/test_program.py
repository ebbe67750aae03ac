"""What holds for every resource of the estate."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from api_gateway.routes import load as load_routes

from tests.estate.conftest import CANARY, DIGEST, Registered

OURS = {"user-service", "api-gateway"}
WORKLOADS = ("Deployment", "StatefulSet", "Job")


def kind(resource: Registered) -> str:
    return resource.type.rpartition(":")[2]


def workloads(resources: list[Registered]) -> Iterator[tuple[Registered, dict[str, Any]]]:
    """Every workload with the spec of its pods."""
    for resource in resources:
        if kind(resource) in WORKLOADS:
            yield resource, resource.inputs["spec"]["template"]["spec"]


def test_the_program_makes_the_whole_estate(resources: list[Registered]) -> None:
    made = {resource.name for resource in resources if kind(resource) in WORKLOADS}
    assert made == {"postgres", "redis", "consul", "prometheus", "user-service-migration", *OURS}


def test_everything_is_in_the_stacks_namespace(resources: list[Registered]) -> None:
    for resource in resources:
        if resource.type.startswith("kubernetes:") and kind(resource) != "Namespace":
            assert resource.inputs["metadata"]["namespace"] == "estate-local", resource.name


def test_the_namespace_admits_restricted_pods_only(resources: list[Registered]) -> None:
    (namespace,) = [resource for resource in resources if kind(resource) == "Namespace"]
    assert namespace.inputs["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_every_pod_gives_up_what_it_does_not_need(resources: list[Registered]) -> None:
    for resource, pod in workloads(resources):
        assert pod["automountServiceAccountToken"] is False, resource.name
        assert pod["enableServiceLinks"] is False, resource.name
        assert pod["securityContext"]["runAsNonRoot"] is True, resource.name
        assert pod["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault", resource.name
        for container in pod["containers"]:
            security = container["securityContext"]
            assert security["readOnlyRootFilesystem"] is True, resource.name
            assert security["allowPrivilegeEscalation"] is False, resource.name
            assert security["capabilities"] == {"drop": ["ALL"]}, resource.name


def test_every_container_has_requests_and_limits(resources: list[Registered]) -> None:
    for resource, pod in workloads(resources):
        for container in pod["containers"]:
            for bound in ("requests", "limits"):
                assert set(container["resources"][bound]) == {"cpu", "memory"}, resource.name


def test_everything_that_serves_is_probed(resources: list[Registered]) -> None:
    for resource, pod in workloads(resources):
        if kind(resource) != "Job":
            for container in pod["containers"]:
                assert {"readinessProbe", "livenessProbe"} <= set(container), resource.name


def test_our_images_are_named_by_digest(resources: list[Registered]) -> None:
    for resource, pod in workloads(resources):
        if resource.name in OURS or kind(resource) == "Job":
            assert pod["containers"][0]["image"].endswith(f"@{DIGEST}"), resource.name


def test_images_are_never_built_for_a_preview_and_never_deleted_from_the_registry(resources: list[Registered]) -> None:
    images = [resource for resource in resources if kind(resource) == "Image"]
    assert {image.name for image in images} == OURS
    assert all(image.inputs["push"] is True and image.inputs["buildOnPreview"] is False for image in images)


def test_selectors_are_the_names_alone(resources: list[Registered]) -> None:
    for resource, _ in workloads(resources):
        if kind(resource) != "Job":
            selector = resource.inputs["spec"]["selector"]["matchLabels"]
            assert selector == {"app.kubernetes.io/name": resource.name}


@pytest.mark.parametrize(("name", "replicas"), [("user-service", 3), ("api-gateway", 2)])
def test_a_service_is_replaced_without_a_gap(resources: list[Registered], name: str, replicas: int) -> None:
    (deployment,) = [r for r in resources if kind(r) == "Deployment" and r.name == name]
    assert deployment.inputs["spec"]["replicas"] == replicas
    assert deployment.inputs["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    pod = deployment.inputs["spec"]["template"]["spec"]
    drain_s = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert drain_s > 0
    assert pod["terminationGracePeriodSeconds"] > drain_s + 25  # the app's own draining
    (budget,) = [r for r in resources if kind(r) == "PodDisruptionBudget" and r.name == name]
    assert budget.inputs["spec"]["maxUnavailable"] == 1


def test_secrets_are_in_secrets_alone(resources: list[Registered]) -> None:
    for resource in resources:
        if kind(resource) != "Secret":
            assert CANARY not in json.dumps(resource.inputs, default=str), resource.name


def test_content_changes_in_place_where_its_name_is_fixed_and_rolls_the_pods_where_it_is_not(
    resources: list[Registered],
) -> None:
    (provider,) = [resource for resource in resources if resource.type == "pulumi:providers:kubernetes"]
    assert {provider.inputs.get(f"enable{name}Mutable") for name in ("Secret", "ConfigMap")} == {"true"}
    held = [resource for resource in resources if kind(resource) in ("Secret", "ConfigMap")]
    fixed = {resource.name for resource in held if "name" in resource.inputs["metadata"]}
    assert fixed == {"token-keys", "token-clients", "gateway-routes"}
    for resource in held:
        assert resource.inputs.get("immutable", False) == (resource.name not in fixed), resource.name


def test_the_api_and_the_consoles_are_public_over_tls(resources: list[Registered]) -> None:
    ingresses = {resource.name: resource.inputs["spec"] for resource in resources if kind(resource) == "Ingress"}
    hosts = {name: spec["rules"][0]["host"] for name, spec in ingresses.items()}
    assert hosts == {"api": "api.myapp.com", "consul": "consul.myapp.com", "prometheus": "prometheus.myapp.com"}
    assert all(spec["tls"][0]["hosts"] == [hosts[name]] for name, spec in ingresses.items())


def test_prometheus_scrapes_every_service_and_consul_every_15_s(resources: list[Registered]) -> None:
    (config,) = [
        r.inputs["data"]["prometheus.yml"] for r in resources if (kind(r), r.name) == ("ConfigMap", "prometheus")
    ]
    assert "scrape_interval: 15s" in config
    assert set(re.findall(r"job_name: (\S+)", config)) == {*OURS, "consul"}


def test_every_route_of_a_service_is_one_that_the_gateway_can_read(resources: list[Registered], tmp_path: Path) -> None:
    (config,) = [r.inputs["data"] for r in resources if (kind(r), r.name) == ("ConfigMap", "gateway-routes")]
    file = tmp_path / "routes.json"
    file.write_text(config["routes.json"])
    table = load_routes(file)
    assert table.services == {"user-service"}
    assert {route.prefix for route in table.routes} == {"/users", "/api/v1/users", "/api/v2/users"}
    assert all(route.auth == "required" for route in table.routes)
