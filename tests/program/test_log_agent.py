"""The agent that ships logs, where the stack names a target: the files that it may read, and its connections."""

from functools import cache
from typing import Any

import pytest
import yaml

from estate.pulumi.program import Registered, run_program, run_with, settings_of
from infra.log_agent import LOGS, POSITIONS
from tests.program.test_network_policies import policies_of
from tests.program.test_program import kind, one, workloads

OUTSIDE = {"endpoint": "https://logs.example.com/otlp", "networks": ["198.51.100.0/24"]}
IN_CLUSTER = {"endpoint": "http://loki.observability:3100/otlp", "namespace": "observability", "folder": "/data/logs"}


@cache
def with_logs(stack: str = "local") -> list[Registered]:
    return run_with(stack, settings_of(stack) | {"logs": OUTSIDE})


def agent(resources: list[Registered]) -> dict[str, Any]:
    """Return the pod spec of the agent."""
    return one(resources, "DaemonSet", "log-agent").inputs["spec"]["template"]["spec"]


def configuration(resources: list[Registered]) -> dict[str, Any]:
    return yaml.safe_load(one(resources, "ConfigMap", "log-agent").inputs["data"]["config.yaml"])


def test_without_the_setting_there_is_no_agent(estate: list[Registered]) -> None:
    assert "log-agent" not in {resource.name for resource in estate}


@pytest.mark.parametrize("stack", ["local", "prod"])
def test_it_changes_nothing_of_the_estate(stack: str) -> None:
    more = [resource for resource in with_logs(stack) if resource not in run_program(stack)]
    assert len(with_logs(stack)) == len(run_program(stack)) + len(more)
    names = {"log-agent", "log-agent-to-logs", "default-deny", f"estate-{stack}-logs"}
    assert {resource.name for resource in more} == names


def test_it_is_in_a_namespace_of_its_own() -> None:
    names = {resource.name for resource in with_logs() if kind(resource) == "Namespace"}
    assert names == {"estate-local", "estate-local-logs"}
    labels = one(with_logs(), "Namespace", "estate-local-logs").inputs["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "privileged"
    for kind_ in ("DaemonSet", "ConfigMap"):
        assert one(with_logs(), kind_, "log-agent").inputs["metadata"]["namespace"] == "estate-local-logs"


def test_it_is_root_to_read_logs_and_nothing_else() -> None:
    pod = agent(with_logs())
    (container,) = pod["containers"]
    assert pod["automountServiceAccountToken"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    on_node = {volume["name"]: volume["hostPath"]["path"] for volume in pod["volumes"] if "hostPath" in volume}
    assert on_node == {"logs": LOGS}
    (mount,) = [mount for mount in container["volumeMounts"] if mount["name"] == "logs"]
    assert mount["readOnly"] is True


def test_where_the_kubelets_keep_logs_is_a_setting() -> None:
    resources = run_with("local", settings_of("local") | {"logs": IN_CLUSTER})
    (volume,) = [volume for volume in agent(resources)["volumes"] if "hostPath" in volume]
    assert volume["hostPath"] == {"path": "/data/logs", "type": "Directory"}


def test_it_sends_the_logs_of_its_own_stack_alone() -> None:
    reported = configuration(with_logs())
    assert reported["receivers"]["file_log"]["include"] == ["/var/log/pods/estate-local_*/*/*.log"]
    assert reported["exporters"]["otlp_http"]["endpoint"] == OUTSIDE["endpoint"]


def test_what_could_not_be_sent_stays_in_the_files() -> None:
    reported = configuration(with_logs())
    assert reported["exporters"]["otlp_http"]["sending_queue"] == {"enabled": False}
    assert reported["receivers"]["file_log"]["retry_on_failure"] == {"enabled": True, "max_elapsed_time": 0}
    assert reported["extensions"]["file_storage"]["directory"] == POSITIONS
    assert {"name": "positions", "emptyDir": {}} in agent(with_logs())["volumes"]


@pytest.mark.parametrize(
    ("logs", "peers", "port"),
    [
        (IN_CLUSTER, [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "observability"}}}], 3100),
        (OUTSIDE, [{"ipBlock": {"cidr": "198.51.100.0/24"}}], 443),
    ],
)
def test_it_may_connect_there_alone(logs: dict[str, Any], peers: list[dict[str, Any]], port: int) -> None:
    before = policies_of(run_program("local"))
    resources = run_with("local", settings_of("local") | {"logs": logs})
    added = {name: spec for name, spec in policies_of(resources).items() if name not in before}
    assert added == {
        "log-agent-to-logs": {
            "podSelector": {"matchLabels": {"app.kubernetes.io/name": "log-agent"}},
            "policyTypes": ["Egress"],
            "egress": [{"to": peers, "ports": [{"protocol": "TCP", "port": port}]}],
        }
    }
    denials = [r for r in resources if (kind(r), r.name) == ("NetworkPolicy", "default-deny")]
    assert {r.inputs["metadata"]["namespace"] for r in denials} == {"estate-local", "estate-local-logs"}


def test_its_pods_are_bounded_and_probed() -> None:
    ((_, pod),) = [(resource, pod) for resource, pod in workloads(with_logs()) if resource.name == "log-agent"]
    (container,) = pod["containers"]
    assert {"readinessProbe", "livenessProbe"} <= set(container)
    for bound in ("requests", "limits"):
        assert set(container["resources"][bound]) == {"cpu", "memory", "ephemeral-storage"}
