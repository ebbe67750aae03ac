"""Names of the secrets of a stack."""

from collections.abc import Iterable
from typing import Literal, NamedTuple

from infra.services import SERVICES
from infra.stack_file import SettingsError

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
CHANGE = "ESTATE_SECRETS_CHANGE"
"""Environment variable with a Change as JSON, for one update; absent: every secret stays as it is."""
TYPE = "pulumi-python:dynamic/estate:GeneratedSecrets"
"""Type of the resource in Pulumi's state."""


def service_secrets() -> list[str]:
    """Return the names of the secrets that services have of their own, in every stack."""
    return [service.secret_key(name) for service in SERVICES for name in service.secrets]


class Step(NamedTuple):
    """One step of a change."""

    do: Literal["generate", "copy", "set", "take", "remove"]
    """Kind of step; `take` takes the value from the configuration."""
    name: str
    of: str = ""
    """Source name for `copy`, value that is not secret for `set`."""


def refuse_missing(stack: str, names: Iterable[str]) -> None:
    """Refuse a stack that lacks secrets which the user must supply.

    Args:
        stack: name of the stack.
        names: names of the missing secrets.

    Raises:
        SettingsError: there are any; with a command for each.
    """
    lines = [
        f"the secret {name} is missing: estate secret set {name} --stack {stack} asks for it,"
        f" and pulumi config set --secret estate:{name} takes it"
        for name in names
    ]
    if lines:
        raise SettingsError("\n".join(lines))
