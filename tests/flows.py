"""Who may connect to whom in stack `local`, written down by hand: the policies have to come to exactly this."""

from infra.services import GATEWAY, NAMES, SERVICES

PORTS = {"postgres": 5432, "redis": 6379, "consul": 8500, "prometheus": 9090} | dict.fromkeys(NAMES, 8080)
"""The one port on which each workload is connected to."""

BEHIND = {service.name: {*service.needs} for service in SERVICES}
REGISTERED = {GATEWAY, *(service.name for service in SERVICES if "consul" in service.needs)}
FLOWS: dict[str, set[str]] = {
    GATEWAY: {"consul", "redis", *BEHIND},
    **BEHIND,
    "consul": REGISTERED,  # its health checks
    "prometheus": {*NAMES, "consul"},
    "postgres": set(),
    "redis": set(),
}
MIGRATIONS = {f"{service.name}-migration" for service in SERVICES if service.migrates}
PASSING = {(name, "postgres") for name in (*MIGRATIONS, "postgres-roles", "postgres-backup", "postgres-restore")}
"""The flows of what runs now and then, and ends."""

PUBLIC = {GATEWAY, "consul", "prometheus"}
"""To whom the Ingress controller connects."""
