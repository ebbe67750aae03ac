"""The effect of the estate's network policies, computed as a cluster does: from the labels of its pods."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from estate.pulumi.program import Registered, run_program
from infra.ingress import controller
from infra.network_policy import DNS
from infra.settings.ingress import IngressSettings
from tests.program.test_program import WORKLOADS, kind, template
from tests.support.flows import FLOWS, MACHINE, OUTSIDE, PASSING, PORTS, PUBLIC, SERVERS_FLOWS

Labels = Mapping[str, str]
Policy = dict[str, Any]
Connection = tuple[str, str, str, int]
"""Client, server, protocol and port of a connection."""


@pytest.fixture
def pods(resources: list[Registered]) -> dict[str, Labels]:
    return pods_of(resources)


@pytest.fixture
def policies(resources: list[Registered]) -> dict[str, Policy]:
    return policies_of(resources)


def pods_of(resources: list[Registered]) -> dict[str, Labels]:
    """Return the labels of the pods of each workload."""
    workloads = [resource for resource in resources if kind(resource) in WORKLOADS]
    operated = [resource for resource in resources if kind(resource) == "Cluster"]  # the operator creates their pods
    return {resource.name: template(resource)["metadata"]["labels"] for resource in workloads} | {
        resource.name: resource.inputs["spec"]["inheritedMetadata"]["labels"] | {"cnpg.io/cluster": resource.name}
        for resource in operated
    }


def policies_of(resources: list[Registered]) -> dict[str, Policy]:
    """Return the spec of each network policy."""
    return {resource.name: resource.inputs["spec"] for resource in resources if kind(resource) == "NetworkPolicy"}


def chosen(selector: dict[str, Any], pods: dict[str, Labels]) -> list[str]:
    """Return the workloads whose pods a selector selects."""
    wanted = selector.get("matchLabels", {})
    return [name for name, labels in pods.items() if wanted.items() <= labels.items()]


def peers(spec: Policy, direction: str, pods: dict[str, Labels]) -> Iterator[Connection]:
    """Yield the connections that a policy allows between pods and peers: workload, peer, protocol and port of the server."""
    side = "from" if direction == "ingress" else "to"
    for rule in spec.get(direction, []):
        for peer in rule[side]:
            outside = peer.get("ipBlock", {}).get("cidr")
            elsewhere = "namespaceSelector" in peer and "podSelector" in peer
            others = [outside or "operator"] if outside or elsewhere else chosen(peer["podSelector"], pods)
            for port in rule["ports"]:
                to = port["protocol"], port["port"]
                yield from ((own, other, *to) for own in chosen(spec["podSelector"], pods) for other in others)


def entering(policies: dict[str, Policy], pods: dict[str, Labels]) -> set[Connection]:
    """Return the connections that the server pods' policies allow."""
    return {
        (source, own, protocol, port)
        for spec in policies.values()
        if "Ingress" in spec["policyTypes"]
        for own, source, protocol, port in peers(spec, "ingress", pods)
    }


def leaving(policies: dict[str, Policy], pods: dict[str, Labels]) -> set[Connection]:
    """Return the connections that the client pods' policies allow, without DNS, which all have."""
    return {
        (own, to, protocol, port)
        for name, spec in policies.items()
        if "Egress" in spec["policyTypes"] and name != "default-deny"
        for own, to, protocol, port in peers(spec, "egress", pods)
    }


def expected() -> set[Connection]:
    between = {(source, to) for source, targets in FLOWS.items() for to in targets} | PASSING
    return {(source, to, "TCP", PORTS[to]) for source, to in between}


def test_every_pod_is_under_the_default_of_nothing_but_dns(
    policies: dict[str, Policy], pods: dict[str, Labels]
) -> None:
    default = policies["default-deny"]
    assert chosen(default["podSelector"], pods) == list(pods)
    assert set(default["policyTypes"]) == {"Ingress", "Egress"}
    assert default["ingress"] == []
    assert default["egress"] == [DNS]


def test_what_may_leave_is_exactly_what_is_needed(policies: dict[str, Policy], pods: dict[str, Labels]) -> None:
    assert leaving(policies, pods) == expected() | {
        (source, MACHINE, "TCP", port) for source, targets in OUTSIDE.items() for _, port in targets
    }


def test_what_may_enter_is_exactly_that_and_what_the_ingress_leads_to(
    policies: dict[str, Policy], pods: dict[str, Labels]
) -> None:
    assert entering(policies, pods) == expected() | {("10.213.1.1/32", to, "TCP", PORTS[to]) for to in PUBLIC}


@pytest.mark.parametrize("stack", ["staging", "prod"])
def test_the_servers_and_agents_of_consul_have_to_do_with_exactly_those_who_need_them(stack: str) -> None:
    resources = run_program(stack)
    pods, policies = pods_of(resources), policies_of(resources)
    wanted = {(*pair, *port) for pair, ports in SERVERS_FLOWS.items() for port in ports}
    for allowed in (leaving(policies, pods), entering(policies, pods)):
        of_consul = {to for to in allowed if {"consul", "consul-server"} & set(to[:2])}
        assert of_consul == wanted


def test_every_policy_chooses_one_workload_and_one_peer(estate: list[Registered]) -> None:
    pods = pods_of(estate)
    for name, spec in policies_of(estate).items():
        if name != "default-deny":
            assert len(chosen(spec["podSelector"], pods)) == 1, name
            (direction,) = [policy_type.lower() for policy_type in spec["policyTypes"]]
            assert len({peer for _, peer, *_ in peers(spec, direction, pods)}) == 1, name


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        (IngressSettings(trusted=["192.0.2.0/24"]), [{"ipBlock": {"cidr": "192.0.2.0/24"}}]),
        (
            IngressSettings(namespace="ingress-nginx"),
            [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress-nginx"}}}],
        ),
    ],
)
def test_the_ingress_controller_is_known_by_its_networks_or_its_namespace(
    settings: IngressSettings, wanted: list[Policy]
) -> None:
    assert controller(settings) == wanted
