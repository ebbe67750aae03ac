"""Connectivity in the running estate: each pair is tried from inside the pods."""

import socket

import pytest

from estate.cluster import layout
from tests.support.flows import FLOWS, OUTSIDE, PORTS
from tests.support.running import Kubectl

STATEFUL = {"postgres", "consul", "prometheus", "alertmanager"}
NAMES = f"{layout.DNS}:53"
API = ("kubernetes.default.svc:443", f"{layout.NODE}:6443")
MACHINE = {f"{layout.NODE}:{port}" for targets in OUTSIDE.values() for _, port in targets}
# All at once: a refusal may take its time, since the kernel limits how many it sends. Upstream's images of Consul and
# Prometheus have busybox in place of bash.
REACHED = """
for to; do
  host=${to%:*} port=${to#*:}
  {
    if command -v bash >/dev/null
    then timeout 3 bash -c "</dev/tcp/$host/$port"
    else nc -z -w 3 $host $port
    fi 2>/dev/null && echo $to
  } &
done
wait
"""


def reached(kubectl: Kubectl, source: str, *targets: str) -> set[str]:
    """Return the `targets` (host:port) that a pod of `source` can connect to."""
    workload = f"{'statefulset' if source in STATEFUL else 'deployment'}/{source}"
    return set(kubectl("exec", workload, "--", "sh", "-c", REACHED, "sh", *targets).split())


@pytest.fixture
def addresses(kubectl: Kubectl) -> dict[str, str]:
    """Return host:port of every workload: its Service's, or its pod's where only Prometheus has to find it."""
    services = kubectl("get", "services", "-o", "jsonpath={.items[*].metadata.name}").split()
    alone = {name: f"--selector=app.kubernetes.io/name={name}" for name in PORTS if name not in services}
    where = "jsonpath={.items[0].status.podIP}"
    hosts = {name: kubectl("get", "pods", selector, "-o", where) for name, selector in alone.items()}
    return {name: f"{hosts.get(name, name)}:{port}" for name, port in PORTS.items()}


@pytest.mark.parametrize("source", sorted(FLOWS))
def test_a_workload_reaches_names_and_what_it_needs_and_nothing_else(
    kubectl: Kubectl, addresses: dict[str, str], source: str
) -> None:
    others = [address for name, address in addresses.items() if name != source]
    allowed = {addresses[name] for name in FLOWS[source]}
    assert reached(kubectl, source, NAMES, *others) == {NAMES, *allowed}


@pytest.mark.parametrize("source", sorted(FLOWS))
def test_a_workload_reaches_of_the_kubernetes_api_and_the_machine_what_it_needs(kubectl: Kubectl, source: str) -> None:
    allowed = {f"{layout.NODE}:{port}" for _, port in OUTSIDE.get(source, ())}
    if API[1] in allowed:
        allowed.add(API[0])
    with socket.create_server((str(layout.NODE), 0)) as server:
        machine = f"{layout.NODE}:{server.getsockname()[1]}"
        assert reached(kubectl, source, NAMES, machine, *{*API, *MACHINE}) == {NAMES, *allowed}
