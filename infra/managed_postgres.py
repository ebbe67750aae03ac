"""Postgres outside the cluster, that somebody else runs: nothing is made, and everything is known of it."""

import pulumi

from infra.database import ROLES
from infra.network_policy import Endpoint
from infra.postgres import NAME
from infra.settings import ManagedPostgresSettings, SettingsError


class ManagedPostgres:
    """A database server by its name, its networks and whom to trust for it."""

    endpoint: Endpoint
    host: str
    admin: str
    ca: pulumi.Output[str]

    def __init__(self, settings: ManagedPostgresSettings) -> None:
        """Take over what the stack says.

        Args:
            settings: of the stack.

        Raises:
            SettingsError: its admin is one of the roles that the estate makes, and would lose what he may.
        """
        if settings.admin in ROLES:
            raise SettingsError(
                f"postgres.managed.admin: {settings.admin} is a role that the estate makes: "
                "name the server's own admin, or let whoever runs it make another"
            )
        self.endpoint = Endpoint(NAME, settings.port, networks=tuple(settings.networks))
        self.host, self.admin = settings.host, settings.admin
        self.ca = pulumi.Output.from_input(settings.ca)
