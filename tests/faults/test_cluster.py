"""The embedded cluster loses everything at once, as in a power cut, and stops without a trace."""

import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx

from estate.cluster import cgroups, layout
from tests.support.running import Kubectl, alerts, create, eventually, reads_back
from tests.support.stacks import succeed


def traces() -> list[str]:
    """Return the traces of the cluster on the machine: processes, mounts, links, routes, rules, address sets."""
    commands = ["iptables-save"], ["ipset", "list", "-name"], ["ip", "route", "show", "root", str(layout.OWN)]
    rules, sets, routes = (
        subprocess.run(command, capture_output=True, text=True, check=True).stdout for command in commands
    )
    return [
        *(f"process {pid}" for pid in cgroups.processes()),
        *(
            line
            for line in Path("/proc/mounts").read_text().splitlines()
            if f" {layout.ROOT}" in line or f" {layout.RUN}" in line
        ),
        *(f"link {link.name}" for link in Path("/sys/class/net").iterdir() if link.name.startswith(("estate", "veth"))),
        *(line for line in rules.splitlines() if "KUBE-" in line or "ESTATE-" in line),
        *(f"route {route}" for route in routes.splitlines()),
        *(f"set {name}" for name in sets.splitlines() if name.startswith(("KUBE-", "TMP-"))),
    ]


def has_metrics(kubectl: Kubectl) -> bool:
    """Return whether the API server serves the metrics API; it refuses while the backend is not there."""
    with suppress(AssertionError):
        return "NodeMetricsList" in kubectl("get", "--raw", "/apis/metrics.k8s.io/v1beta1/nodes")
    return False


def start_again(client: httpx.Client, user: dict[str, Any], kubectl: Kubectl) -> None:
    """Start the cluster; return once the user can be read and every workload is ready."""
    succeed("cluster", "start")
    # Through the API server, which may have connected while there was no pod: until it reconnects, no namespace can be deleted.
    eventually(lambda: has_metrics(kubectl), "metrics", 120)
    eventually(lambda: reads_back(client, user), "the user is read back", 180)
    for workload in kubectl("get", "deployments,statefulsets", "--output=name").split():
        kubectl("rollout", "status", workload, "--timeout=120s")


NOWHERE = '{"spec": {"template": {"spec": {"nodeSelector": {"none": "such"}}}}}'
ANYWHERE = '{"spec": {"template": {"spec": {"nodeSelector": {"none": null}}}}}'


def test_an_ingress_that_is_gone_is_reported(client: httpx.Client, new_user: dict[str, Any], kubectl: Kubectl) -> None:
    user = create(client, new_user)
    kubectl("patch", "--namespace=ingress", "daemonset/skipper", f"--patch={NOWHERE}")
    try:
        eventually(lambda: "IngressDown" in alerts(kubectl), "IngressDown fires", 120)
    finally:
        kubectl("patch", "--namespace=ingress", "daemonset/skipper", f"--patch={ANYWHERE}")
    eventually(lambda: reads_back(client, user), "the user is read back", 60)
    eventually(lambda: "IngressDown" not in alerts(kubectl), "IngressDown is over", 120)


def test_it_starts_again_with_its_data_after_everything_was_killed(
    client: httpx.Client, new_user: dict[str, Any], kubectl: Kubectl
) -> None:
    user = create(client, new_user)
    assert cgroups.kill_all() > 20
    start_again(client, user, kubectl)


def test_it_stops_without_a_trace_and_starts_again_with_its_data(
    client: httpx.Client, new_user: dict[str, Any], kubectl: Kubectl
) -> None:
    user = create(client, new_user)
    assert traces()
    succeed("cluster", "stop")
    assert traces() == []
    start_again(client, user, kubectl)
