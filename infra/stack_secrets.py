"""The secrets of a stack, named after their use: generated ones from Pulumi's state, given ones from its configuration."""

from dataclasses import dataclass

import pulumi

from infra.generated_secrets import GeneratedSecrets
from infra.settings import SettingsError, StackSettings

TOKEN_KEYS = ("tokenKey", "nextTokenKey", "previousTokenKey")
"""Keys of tokens. The first one signs; tokens signed with the others, which are there while keys are rotated, are accepted too."""
DATABASE_LOGIN = "databaseLogin"
"""Name of the value that is the services' login, `a` or `b`; absent: `a`."""


@dataclass(frozen=True)
class DatabaseSecrets:
    """The passwords of the database's logins."""

    admin: pulumi.Output[str]
    owner: pulumi.Output[str]
    backup: pulumi.Output[str]
    metrics: pulumi.Output[str]
    app: dict[str, pulumi.Output[str]]
    """Passwords of the services' two logins, `a` and `b`."""
    active: pulumi.Output[str]
    """The login that they use."""


@dataclass(frozen=True)
class Secrets:
    """The passwords and keys of a stack."""

    database: DatabaseSecrets
    redis_password: pulumi.Output[str]
    token_keys: pulumi.Output[list[str]]
    """Keys of tokens; the first one signs."""
    operator_secret: pulumi.Output[str]
    authority_seed: pulumi.Output[str]
    consul_seed: pulumi.Output[str]
    grafana_password: pulumi.Output[str] | None
    """None where there is no Grafana."""
    receivers: dict[str, pulumi.Output[str]]
    """Secrets of the receivers, keyed with the names that these have for them."""


def load_secrets(settings: StackSettings) -> Secrets:
    """Return the passwords and keys of the stack that Pulumi runs, as Pulumi secrets.

    Args:
        settings: of the stack, which say what it needs.

    Raises:
        SettingsError: one that has to be given is not.
    """
    config = pulumi.Config("estate")
    names = settings.generated_secrets
    known = (*names, *TOKEN_KEYS[1:], DATABASE_LOGIN)
    first = {name: value for name in known if (value := config.get_secret(name)) is not None}
    generated = GeneratedSecrets(names, first)
    return Secrets(
        database=DatabaseSecrets(
            admin=given(config, "postgresPassword") if settings.postgres.managed else generated["postgresPassword"],
            owner=generated["databaseOwnerPassword"],
            backup=generated["databaseBackupPassword"],
            metrics=generated["databaseMetricsPassword"],
            app={"a": generated["databasePasswordA"], "b": generated["databasePasswordB"]},
            active=generated.values.apply(lambda values: values.get(DATABASE_LOGIN, "a")),
        ),
        redis_password=generated["redisPassword"],
        token_keys=generated.among(TOKEN_KEYS),
        operator_secret=generated["operatorSecret"],
        authority_seed=generated["authoritySeed"],
        consul_seed=generated["consulSeed"],
        grafana_password=generated["grafanaPassword"] if settings.images.grafana else None,
        receivers={name: given(config, name) for name in settings.receiver_secrets},
    )


def given(config: pulumi.Config, name: str) -> pulumi.Output[str]:
    """Return a secret of the stack's configuration.

    Raises:
        SettingsError: it is not there.
    """
    value = config.get_secret(name)
    if value is None:
        raise SettingsError(
            f"the secret {name} is missing: make secret NAME={name} STACK={pulumi.get_stack()} asks for it,"
            f" and pulumi config set --secret estate:{name} takes it"
        )
    return value
