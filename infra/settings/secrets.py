"""Names of the secrets of a stack."""

from infra.services import SERVICES

GENERATED_SECRETS = (
    "postgresPassword",
    "databaseOwnerPassword",
    "databaseBackupPassword",
    "databaseMetricsPassword",
    "databasePasswordA",
    "databasePasswordB",
    "redisPassword",
    "tokenKey",
    "operatorSecret",
    "authoritySeed",
    "consulSeed",
    "grafanaPassword",
)
"""Secrets that every stack needs, and the program generates (infra/stack_secrets.py).

Except the password of a managed database's admin, which is given, and `grafanaPassword` where there is no Grafana.
"""
TOKEN_KEYS = ("tokenKey", "nextTokenKey", "previousTokenKey")
"""Names of the token keys. The first one signs; the others exist while keys are rotated, and tokens signed with them are accepted too."""
DATABASE_LOGIN = "databaseLogin"
"""Name of the value that selects the services' login, `a` or `b`; absent: `a`."""


def service_secrets() -> list[str]:
    """Return the names of the secrets that services have of their own, in every stack."""
    return [service.secret_key(name) for service in SERVICES for name in service.secrets]
