"""The roles of the database: for its owner, for services that read and write rows, for backups and for metrics."""

import hashlib
import hmac
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from typing import Any

import pulumi
from pulumi_kubernetes.core.v1 import Secret

from infra.database import Login, Server, client, client_pod, client_secret, script
from infra.database_names import BACKUP, LOGINS, METRICS, OWNER, PUBLIC, ServiceRoles, roles_of
from infra.jobs import run_once
from infra.namespace import EstateNamespace
from infra.network_policy import Flow
from infra.scram import verifier
from infra.services import Service
from infra.stack_secrets import DatabaseSecrets

NAME = "postgres-roles"


class DatabaseRoles(pulumi.ComponentResource):
    """Least-privilege roles and their logins, created by a Job; a changed password gives another Job."""

    secret: Secret
    """Files of `container`."""

    def __init__(
        self,
        server: Server,
        image: str,
        secrets: DatabaseSecrets,
        services: Sequence[Service],
        namespace: EstateNamespace,
    ) -> None:
        """Create the Job.

        Args:
            server: the database server.
            image: image of the server.
            secrets: passwords of the logins, and the login that the services use.
            services: services that have tables.
            namespace: namespace of the Job.
        """
        super().__init__(
            "estate:database_roles:DatabaseRoles",
            NAME,
            {},
            pulumi.ResourceOptions(
                parent=namespace, depends_on=[server] if isinstance(server, pulumi.Resource) else None
            ),
        )
        own = [roles for service in services if (roles := roles_of(service)) is not PUBLIC]
        self._passwords = passwords(secrets, own)
        files = {
            "roles.sql": script("roles.sql"),
            "service.sql": script("service.sql"),
            "schema.sql": script("schema.sql"),
            "services.sql": "".join(map(made_by, own)),
            "verifiers.sql": pulumi.Output.all(**self._passwords).apply(verifiers),
        }
        self.secret = client_secret(NAME, server, secrets.admin, namespace, self, files)
        self._server, self._image, self._active = server, image, secrets.active
        flow = Flow(NAME, server.endpoint, namespace.name, self)
        run_once(NAME, client_pod(self.container, {NAME: self.secret}), namespace, self, [flow])
        self.register_outputs({})

    @property
    def container(self) -> dict[str, Any]:
        """Return the container that brings the roles of any existing database to their declared state."""
        return client(NAME, self._image, self._server, self._server.admin)

    def login(self, service: Service) -> Login:
        """Return the login that a service uses now."""
        logins = roles_of(service).logins
        known = pulumi.Output.all(active=self._active, **{key: self._passwords[name] for key, name in logins.items()})
        return Login(self._server, self._active.apply(logins.__getitem__), known.apply(password_of_active))

    def owner(self, service: Service) -> Login:
        """Return the login of a service's migration."""
        name = roles_of(service).owner
        return Login(self._server, name, self._passwords[name])


def passwords(secrets: DatabaseSecrets, own: Sequence[ServiceRoles]) -> dict[str, pulumi.Output[str]]:
    """Return the password of each login.

    Args:
        secrets: the stack's passwords.
        own: roles of the services that have a schema of their own. Their passwords are derived from the owner's, which no service has; those of
            their logins also change with `secrets.app`.
    """
    known = {OWNER: secrets.owner, BACKUP: secrets.backup, METRICS: secrets.metrics}
    known |= {PUBLIC.logins[letter]: secrets.app[letter] for letter in LOGINS}
    for roles in own:
        known[roles.owner] = derived(secrets.owner, roles.owner, pulumi.Output.from_input(""))
        known |= {name: derived(secrets.owner, name, secrets.app[letter]) for letter, name in roles.logins.items()}
    return known


def derived(key: pulumi.Output[str], login: str, salt: pulumi.Output[str]) -> pulumi.Output[str]:
    """Return the password of a login, derived from a secret key: 32 bytes as base64url without padding."""

    def of(known: Sequence[str]) -> str:
        digest = hmac.digest(known[0].encode(), f"estate:{login}:{known[1]}".encode(), hashlib.sha256)
        return urlsafe_b64encode(digest).rstrip(b"=").decode()

    return pulumi.Output.all(key, salt).apply(of)


def made_by(roles: ServiceRoles) -> str:
    """Return the psql commands that create a service's own roles and schema."""
    values = {"role": roles.role}
    for name, login in {"owner": roles.owner, **roles.logins}.items():
        values |= {f"login_{name}": login, f"verifier_{name}": f":{login}"}
    return "".join(f"\\set {name} {value}\n" for name, value in values.items()) + "\\ir service.sql\n"


def verifiers(known: Mapping[str, str]) -> str:
    """Return the psql commands that set the SCRAM verifier of each login's password as a variable."""
    key = "".join(known.values())
    return "".join(f"\\set {login} '{verifier(login, password, key)}'\n" for login, password in known.items())


def password_of_active(known: Mapping[str, str]) -> str:
    """Return the password of the active login, from the passwords by the letters of LOGINS."""
    return known[known["active"]]
