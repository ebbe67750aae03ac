"""Who may connect to whom in stack `local`, written down by hand: the policies have to come to exactly this."""

PORTS = {
    "user-service": 8080,
    "api-gateway": 8080,
    "postgres": 5432,
    "redis": 6379,
    "consul": 8500,
    "prometheus": 9090,
}
"""The one port on which each workload is connected to."""

FLOWS = {
    "api-gateway": {"consul", "redis", "user-service"},
    "user-service": {"postgres", "redis", "consul"},
    "consul": {"user-service", "api-gateway"},  # its health checks
    "prometheus": {"user-service", "api-gateway", "consul"},
    "postgres": set[str](),
    "redis": set[str](),
}
PASSING = {("user-service-migration", "postgres"), ("consul-snapshot", "consul"), ("consul-restore", "consul")}
"""The flows of what runs before an update or now and then, and is gone after it."""

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
    ("api-gateway", "consul"): {("TCP", 8500)},
    ("user-service", "consul"): {("TCP", 8500)},
    ("consul", "api-gateway"): {("TCP", 8080)},
    ("consul", "user-service"): {("TCP", 8080)},
}
"""All that Consul's servers and agents have to do with, in a stack of three servers: protocols and ports."""

PUBLIC = {"api-gateway", "consul", "prometheus"}
"""To whom the Ingress controller connects."""
