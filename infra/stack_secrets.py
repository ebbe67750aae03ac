"""The secrets of a stack, named after their use: generated ones from Pulumi's state, given ones from its configuration."""

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi

from infra.generated_secrets import GeneratedSecrets
from infra.services import Service
from infra.settings.secrets import DATABASE_LOGIN, TOKEN_KEYS, refuse_missing, service_secrets
from infra.settings.stack import StackSettings


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
    """Password of Grafana's user admin; None if there is no Grafana."""
    receivers: dict[str, pulumi.Output[str]]
    """Secrets of the alert receivers, by the names of the secrets."""
    services: Mapping[str, pulumi.Output[str]]
    """Services' own secrets, by their names in the stack's configuration."""

    def of(self, service: Service) -> dict[str, pulumi.Output[str]]:
        """Return the own secrets of one of our services, by the names in its declaration."""
        return {name: self.services[service.secret_key(name)] for name in service.secrets}


def load_secrets(settings: StackSettings) -> Secrets:
    """Return the passwords and keys of the stack that Pulumi runs, as Pulumi secrets.

    Args:
        settings: the stack's settings, which determine the secrets that it needs.

    Raises:
        SettingsError: secrets that the user must supply are missing; with a line for each.
    """
    config = pulumi.Config("estate")
    known_given = {name: config.get_secret(name) for name in settings.given_secrets}
    refuse_missing(pulumi.get_stack(), (name for name, value in known_given.items() if value is None))
    given = {name: value for name, value in known_given.items() if value is not None}
    names = settings.generated_secrets
    known = (*names, *TOKEN_KEYS[1:], DATABASE_LOGIN)
    first = {name: value for name in known if (value := config.get_secret(name)) is not None}
    generated = GeneratedSecrets(names, first)
    return Secrets(
        database=DatabaseSecrets(
            admin=given["postgresPassword"] if settings.postgres.managed else generated["postgresPassword"],
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
        receivers={name: given[name] for name in settings.receiver_secrets},
        services={name: given[name] for name in service_secrets()},
    )
