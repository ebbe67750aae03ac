"""The connections allowed in stack `local`, written down by hand: the policies have to result in exactly these."""

from infra.services import GATEWAY, NAMES, SERVICES

PORTS = {
    "postgres": 5432,
    "redis": 6379,
    "consul": 8500,
    "prometheus": 9090,
    "kube-state-metrics": 8080,
    "postgres-metrics": 9187,
    "redis-metrics": 9121,
    "alertmanager": 9093,
} | dict.fromkeys(NAMES, 8080)
"""The one port at which each workload accepts connections."""

BEHIND = {service.name: {*service.needs, *service.calls} for service in SERVICES}
REGISTERED = {GATEWAY, *(service.name for service in SERVICES if "consul" in service.needs)}
WORK = {
    service.workload(work): {*service.needs, *service.calls} - {"consul"}
    for service in SERVICES
    for work in (*service.jobs, *service.workers)
}
"""Flows of jobs and workers, which are not registered in Consul."""
FLOWS: dict[str, set[str]] = {
    GATEWAY: {"consul", "redis", *BEHIND},
    **BEHIND,
    "consul": REGISTERED,  # its health checks
    "kube-state-metrics": set(),
    "prometheus": {*NAMES, "consul", "kube-state-metrics", "postgres-metrics", "redis-metrics", "alertmanager"},
    "alertmanager": set(),
    "postgres-metrics": {"postgres"},
    "redis-metrics": {"redis"},
    "postgres": set(),
    "redis": set(),
    **WORK,
}
MIGRATIONS = {f"{service.name}-migration" for service in SERVICES if service.migrates}
PASSING = {(name, "postgres") for name in (*MIGRATIONS, "postgres-roles", "postgres-backup", "postgres-restore")} | {
    ("consul-snapshot", "consul"),
    ("consul-restore", "consul"),
}
"""Flows of workloads that run now and then, and end."""

MACHINE = "10.213.0.1/32"
API_SERVER = ("api-server", 6443)
OUTSIDE = {
    "prometheus": {API_SERVER, ("kubelet", 10250), ("ingress", 9911)},
    "kube-state-metrics": {API_SERVER},
}
"""Flows to the embedded cluster's machine: target and port, by workload."""

SERVERS_FLOWS = {
    ("consul", "consul-server"): {("TCP", 8300), ("TCP", 8301), ("UDP", 8301)},
    ("consul-server", "consul-server"): {("TCP", 8300), ("TCP", 8301), ("UDP", 8301)},
    ("consul-server", "consul"): {("TCP", 8301), ("UDP", 8301)},
    ("consul", "consul"): {("TCP", 8301), ("UDP", 8301)},
    ("consul-access", "consul-server"): {("TCP", 8501)},
    ("consul-snapshot", "consul-server"): {("TCP", 8501)},
    ("consul-restore", "consul-server"): {("TCP", 8501)},
    ("prometheus", "consul-server"): {("TCP", 8501)},
    ("prometheus", "consul"): {("TCP", 8501)},
    **{(name, "consul"): {("TCP", 8500)} for name in REGISTERED},
    **{("consul", name): {("TCP", 8080)} for name in REGISTERED},
}
"""All flows of Consul's servers and agents in a stack of three servers: protocols and ports."""

PUBLIC = {GATEWAY, "consul", "prometheus", "alertmanager"}
"""Workloads that the Ingress controller connects to."""
