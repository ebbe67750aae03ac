"""The roles of the database: who owns it, who reads and writes its rows, who copies it, and who watches it."""

from collections.abc import Mapping
from typing import Any

import pulumi
from pulumi_kubernetes.core.v1 import Secret

from infra.database import BACKUP, LOGINS, METRICS, OWNER, Login, Server, client, client_pod, client_secret, script
from infra.jobs import run_once
from infra.namespace import EstateNamespace
from infra.network_policy import Flow
from infra.scram import verifier
from infra.stack_secrets import DatabaseSecrets

NAME = "postgres-roles"


class DatabaseRoles(pulumi.ComponentResource):
    """Roles of least privilege, and the logins that come of them; the Job is another whenever a password is."""

    app: Login
    """Of the services."""
    owner: Login
    """Of migrations."""
    secret: Secret
    """Files of `container`."""

    def __init__(self, server: Server, image: str, secrets: DatabaseSecrets, namespace: EstateNamespace) -> None:
        """Create the Job.

        Args:
            server: of the database.
            image: of the server.
            secrets: every login's password, and which login the services use.
            namespace: where the Job runs.
        """
        super().__init__(
            "estate:database_roles:DatabaseRoles",
            NAME,
            {},
            pulumi.ResourceOptions(
                parent=namespace, depends_on=[server] if isinstance(server, pulumi.Resource) else None
            ),
        )
        files = {
            "roles.sql": script("roles.sql"),
            "verifiers.sql": pulumi.Output.all(**passwords(secrets)).apply(verifiers),
        }
        self.secret = client_secret(NAME, server, secrets.admin, namespace, self, files)
        self._server, self._image = server, image
        flow = Flow(NAME, server.endpoint, namespace.name, self)
        run_once(NAME, client_pod(self.container, {NAME: self.secret}), namespace, self, [flow])
        active = secrets.active
        names = pulumi.Output.all(active, *secrets.app.values())
        self.app = Login(server, active.apply(LOGINS.__getitem__), names.apply(password_of_active))
        self.owner = Login(server, OWNER, secrets.owner)
        self.register_outputs({})

    @property
    def container(self) -> dict[str, Any]:
        """What brings the roles to what they should be, on whatever database is there."""
        return client(NAME, self._image, self._server, self._server.admin)


def passwords(secrets: DatabaseSecrets) -> dict[str, pulumi.Output[str]]:
    """The password of each login."""
    ours = {OWNER: secrets.owner, BACKUP: secrets.backup, METRICS: secrets.metrics}
    return ours | {LOGINS[of]: word for of, word in secrets.app.items()}


def verifiers(known: Mapping[str, str]) -> str:
    """What psql knows each login's password by, in variables."""
    key = "".join(known.values())
    return "".join(f"\\set {login} '{verifier(login, password, key)}'\n" for login, password in known.items())


def password_of_active(known: list[str]) -> str:
    """The password of the login that the services use."""
    active, *words = known
    return dict(zip(LOGINS, words, strict=True))[active]
