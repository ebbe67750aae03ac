"""The running workloads: as declared, by digest, on the estate's own cluster."""

from collections import Counter

import pytest

from estate.cluster import layout
from estate.stack.model import Stack, on
from infra.services import NAMES
from tests.support.running import Items, Kubectl, connect, eventually
from tests.support.stacks import estate


@pytest.fixture
def wanted(stack: Stack) -> dict[str, int]:
    """Return the number of replicas of each of our services in the stack."""
    return {name: stack.settings.of(name).replicas for name in NAMES}


def test_the_services_have_their_replicas(items: Items, wanted: dict[str, int]) -> None:
    def ready() -> dict[str, int]:
        return {item["metadata"]["name"]: item["status"].get("readyReplicas", 0) for item in items("deployments")}

    # A pod that a rollout has replaced counts until it has drained.
    eventually(lambda: wanted.items() <= ready().items(), f"ready are {wanted}", 60)


def test_our_images_run_by_digest(items: Items) -> None:
    images = {
        container["image"]
        for item in items("deployments", "-l", f"app.kubernetes.io/name in ({', '.join(NAMES)})")
        for container in item["spec"]["template"]["spec"]["containers"]
    }
    assert len(images) == len(NAMES)
    assert all("@sha256:" in image for image in images)


@pytest.mark.parametrize("app", NAMES)
def test_our_images_hold_nothing_that_installs_packages(kubectl: Kubectl, app: str) -> None:
    look = "import pathlib; print(*(p for n in ('pip', 'setuptools', 'uv') for p in pathlib.Path('/').glob(f'[!ps]*/**/{n}')))"
    assert kubectl("exec", f"deployment/{app}", "--", "/app/.venv/bin/python", "-c", look).split() == []


def test_volumes_are_bound_by_the_default_storage_class(items: Items) -> None:
    # The claim of the backups is not bound before the first backup.
    claims = [claim for claim in items("persistentvolumeclaims") if claim["metadata"]["name"].startswith("data-")]
    assert {claim["metadata"]["name"].split("-")[-2] for claim in claims} >= {"postgres", "consul"}
    assert all(claim["status"]["phase"] == "Bound" for claim in claims)


@pytest.mark.parametrize("of", ["gateway", "consul", "prometheus", "alertmanager"])
def test_every_console_has_a_url(urls: dict[str, str], of: str) -> None:
    assert urls[of].startswith("https://")


def test_a_second_up_changes_nothing(stack: Stack) -> None:
    again = stack.pulumi("preview", "--expect-no-changes", *on(stack))
    assert again.returncode == 0, again.stdout + again.stderr


def test_no_secret_is_in_the_exported_state_in_the_clear(stack: Stack, kubectl: Kubectl) -> None:
    read = "print(open('/run/secrets/app/database-password').read())"
    password = kubectl("exec", "deployment/user-service", "--", "/app/.venv/bin/python", "-c", read).strip()
    assert len(password) > 20
    assert password not in stack.pulumi("stack", "export", "--stack", stack.name).stdout


def test_an_unknown_stack_is_named_with_the_known_ones() -> None:
    refused = estate("preview", stack="lokal")
    assert refused.returncode == 2
    assert "there is no stack 'lokal': the stacks are dev, local, prod, staging" in refused.stderr


def test_the_cluster_found_running_is_left_as_it_is() -> None:
    again = estate("cluster", "start")
    assert again.returncode == 0
    assert f"cluster is up: {layout.KUBECONFIG}" in again.stdout


OTHERS = (
    "alertmanager", "consul", "ingress", "kube-state-metrics", "kubelet", "kubelet-cadvisor", "kubelet-resource", "postgres", "prometheus", "redis",
)  # fmt: skip
"""Targets that Prometheus scrapes apart from our services, one of each."""


def test_prometheus_has_every_service_and_everything_that_they_stand_on(
    urls: dict[str, str], wanted: dict[str, int]
) -> None:
    def scraped() -> Counter[str]:
        # Its targets, not `up`: the series of instances that ended while Prometheus was down stay for five minutes.
        targets = prometheus.get("/api/v1/targets", params={"state": "active"}).json()["data"]["activeTargets"]
        return Counter(target["labels"]["job"] for target in targets if target["health"] == "up")

    with connect(urls["prometheus"]) as prometheus:
        eventually(lambda: scraped() == wanted | dict.fromkeys(OTHERS, 1), "every target is scraped", 90)


@pytest.mark.parametrize(
    "query",
    [
        'kube_deployment_status_replicas_available{deployment="user-service"}',
        'container_cpu_usage_seconds_total{container="user-service"}',
        'container_cpu_cfs_throttled_periods_total{pod=~"user-service-.*"}',
        'container_memory_working_set_bytes{container="postgres"}',
        "skipper_serve_host_duration_seconds_count or skipper_serve_route_duration_seconds_count or skipper_response_duration_seconds_count",
    ],
)
def test_prometheus_knows_of_the_cluster_what_is_this_stacks_alone(
    stack: Stack, urls: dict[str, str], query: str
) -> None:
    def found() -> list[dict[str, str]]:
        answer = prometheus.get("/api/v1/query", params={"query": query}).json()
        return [series["metric"] for series in answer["data"]["result"]]

    with connect(urls["prometheus"]) as prometheus:
        eventually(lambda: bool(found()), query, 60)
        assert {series.get("namespace", stack.namespace) for series in found()} == {stack.namespace}


def test_consul_has_every_instance_passing(urls: dict[str, str], wanted: dict[str, int]) -> None:
    def passing(service: str) -> int:
        return len(consul.get(f"/v1/health/service/{service}", params={"passing": "1"}).json())

    with connect(urls["consul"]) as consul:
        eventually(lambda: {name: passing(name) for name in wanted} == wanted, f"passing are {wanted}", 90)


def test_prometheus_watches_every_service_and_rings_for_none(urls: dict[str, str]) -> None:
    def watched() -> dict[tuple[str, str], tuple[str, str]]:
        groups = prometheus.get("/api/v1/rules").json()["data"]["groups"]
        return {
            (group["name"], rule["name"]): (rule["health"], rule.get("state", "recorded"))
            for group in groups
            for rule in group["rules"]
        }

    with connect(urls["prometheus"]) as prometheus:
        wanted = {(name, "ServiceDown"): ("ok", "inactive") for name in NAMES}
        eventually(lambda: wanted.items() <= watched().items(), "every rule is evaluated", 60)
        assert {health for health, _ in watched().values()} == {"ok"}
