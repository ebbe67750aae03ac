"""A stack with tracing: the pods that know the collector, and those that may connect to it."""

from typing import Any

import pytest

from estate.pulumi.program import Registered, run_program, run_with, settings_of
from infra.services import NAMES
from tests.program.test_network_policies import policies_of
from tests.program.test_program import containers, workloads

IN_CLUSTER = {"endpoint": "http://collector.observability:4318", "ratio": 0.5, "namespace": "observability"}
OUTSIDE = {"endpoint": "https://otlp.example.com", "networks": ["198.51.100.0/24"]}


def environment(resources: list[Registered], prefix: str) -> dict[str, dict[str, str]]:
    """Return the variables of each workload's containers whose names have a prefix; workloads without one are left out."""
    found = {
        workload.name: {v["name"]: v["value"] for c in containers(pod) for v in c.get("env", ()) if v["name"].startswith(prefix)}
        for workload, pod in workloads(resources)
    }  # fmt: skip
    return {name: variables for name, variables in found.items() if variables}


def test_each_of_our_services_knows_the_collector_and_nothing_else_does() -> None:
    resources = run_with("local", settings_of("local") | {"tracing": IN_CLUSTER})
    reported = {"APP_TRACING_ENDPOINT": "http://collector.observability:4318", "APP_TRACING_RATIO": "0.5"}
    assert environment(resources, "APP_TRACING") == dict.fromkeys(NAMES, reported)
    named = {"OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=local"}
    assert environment(resources, "OTEL") == dict.fromkeys(NAMES, named)


@pytest.mark.parametrize(
    ("tracing", "peers", "port"),
    [
        (IN_CLUSTER, [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "observability"}}}], 4318),
        (OUTSIDE, [{"ipBlock": {"cidr": "198.51.100.0/24"}}], 443),
    ],
)
def test_each_of_our_services_may_connect_to_the_collector_alone(
    tracing: dict[str, Any], peers: list[dict[str, Any]], port: int
) -> None:
    before = policies_of(run_program("local"))
    added = policies_of(run_with("local", settings_of("local") | {"tracing": tracing}))
    assert {name: spec for name, spec in added.items() if name not in before} == {
        f"{name}-to-tracing": {
            "podSelector": {"matchLabels": {"app.kubernetes.io/name": name}},
            "policyTypes": ["Egress"],
            "egress": [{"to": peers, "ports": [{"protocol": "TCP", "port": port}]}],
        }
        for name in NAMES
    }
    assert {name: added[name] for name in before} == before


def test_without_the_setting_nothing_is_recorded() -> None:
    assert environment(run_program("local"), "APP_TRACING") == {}


def test_prometheus_keeps_the_traces_that_durations_name(estate: list[Registered]) -> None:
    (prometheus,) = [pod for workload, pod in workloads(estate) if workload.name == "prometheus"]
    assert "--enable-feature=exemplar-storage" in prometheus["containers"][0]["command"]
