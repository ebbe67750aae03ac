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
PASSING = {
    (name, "postgres") for name in ("user-service-migration", "postgres-roles", "postgres-backup", "postgres-restore")
}
"""The flows of what runs now and then, and ends."""

PUBLIC = {"api-gateway", "consul", "prometheus"}
"""To whom the Ingress controller connects."""
