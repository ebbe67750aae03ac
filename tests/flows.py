"""Who may connect to whom in stack `local`, written down by hand: the policies have to come to exactly this."""

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
"""The one port on which each workload is connected to."""

BEHIND = {service.name: {*service.needs, *service.calls} for service in SERVICES}
REGISTERED = {GATEWAY, *(service.name for service in SERVICES if "consul" in service.needs)}
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
}
MIGRATIONS = {f"{service.name}-migration" for service in SERVICES if service.migrates}
PASSING = {(name, "postgres") for name in (*MIGRATIONS, "postgres-roles", "postgres-backup", "postgres-restore")} | {
    ("consul-snapshot", "consul"),
    ("consul-restore", "consul"),
}
"""The flows of what runs now and then, and ends."""

MACHINE = "10.213.0.1/32"
API_SERVER = ("api-server", 6443)
OUTSIDE = {
    "prometheus": {API_SERVER, ("kubelet", 10250), ("ingress", 9911)},
    "kube-state-metrics": {API_SERVER},
}
"""What connects to the embedded cluster's machine: to what there, and to which port."""

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
"""All that Consul's servers and agents have to do with, in a stack of three servers: protocols and ports."""

PUBLIC = {GATEWAY, "consul", "prometheus", "alertmanager"}
"""To whom the Ingress controller connects."""
