"""An externally managed Postgres: the estate creates no server, and the settings describe it completely."""

import pulumi

from infra.network_policy import Endpoint
from infra.postgres import NAME
from infra.settings.database import ManagedPostgresSettings


class ManagedPostgres:
    """A database server, known by its name, its networks and its certificate authority."""

    endpoint: Endpoint
    host: str
    admin: str
    ca: pulumi.Output[str]

    def __init__(self, settings: ManagedPostgresSettings) -> None:
        """Take the server's description from the settings.

        Args:
            settings: the stack's settings of the managed server.
        """
        self.endpoint = Endpoint(NAME, settings.port, networks=tuple(settings.networks))
        self.host, self.admin = settings.host, settings.admin
        self.ca = pulumi.Output.from_input(settings.ca)
