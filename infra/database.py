"""The database as its clients have it, whoever runs it: a server, logins on it, and programs of its own image."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import pulumi
from pulumi_kubernetes.core.v1 import Secret

from infra.namespace import EstateNamespace
from infra.network_policy import Endpoint
from infra.pods import container_security, resources, restricted_pod, unnamed

DATABASE = "myapp"
ADMIN = "postgres"
"""The superuser of a server of ours; roles are its only work."""
OWNER = "myuser_owner"
"""Owns the schema, and migrates it."""
LOGINS = {"a": "myuser_a", "b": "myuser_b"}
"""Of the services, which may read and write rows; they use the one while the other gets another password."""
BACKUP = "backup"
"""May read everything."""
METRICS = "metrics"
"""May read what the server counts, and no row."""
ROLES = ("myuser", OWNER, *LOGINS.values(), BACKUP, METRICS)
"""All that scripts/roles.sql makes."""
UID = 10003
"""Of programs of ours; any, since it owns nothing that the server has."""
SCRIPTS = Path(__file__).parent / "scripts"
SECRETS_FOLDER = "/run/secrets/app"


class Server(Protocol):
    """A Postgres that speaks TLS, and has the database DATABASE."""

    @property
    def endpoint(self) -> Endpoint:
        """Where it listens."""
        ...

    @property
    def host(self) -> str:
        """Its name, which its certificate bears too."""
        ...

    @property
    def admin(self) -> str:
        """Who makes the roles."""
        ...

    ca: pulumi.Output[str]
    """Whom to trust for that, as PEM."""


class Login:
    """A server as a service needs it: all in files, so that name and password change together."""

    calls_back = False

    def __init__(self, server: Server, username: pulumi.Input[str], password: pulumi.Input[str]) -> None:
        """Say how a service logs in.

        Args:
            server: where.
            username: as whom.
            password: of that.
        """
        self.endpoint = server.endpoint
        self.environment = {
            "APP_DATABASE_HOST": server.host,
            "APP_DATABASE_PORT": str(server.endpoint.port),
            "APP_DATABASE_NAME": DATABASE,
            "APP_DATABASE_USERNAME_FILE": f"{SECRETS_FOLDER}/database-username",
            "APP_DATABASE_PASSWORD_FILE": f"{SECRETS_FOLDER}/database-password",
            "APP_DATABASE_CA_FILE": f"{SECRETS_FOLDER}/database-ca.crt",
        }
        self._secrets = {
            "database-username": pulumi.Output.from_input(username),
            "database-password": pulumi.Output.from_input(password),
            "database-ca.crt": server.ca,
        }

    def secrets_of(self, _app: str, /) -> dict[str, pulumi.Output[str]]:
        """Files that a service has mounted: name and content."""
        return self._secrets


def client_secret(
    name: str,
    server: Server,
    password: pulumi.Input[str],
    namespace: EstateNamespace,
    parent: pulumi.Resource,
    files: Mapping[str, pulumi.Input[str]] | None = None,
) -> Secret:
    """The files of a program that `client` runs: scripts/<name>.sh and what it reads.

    Args:
        name: of the program.
        server: that it works on.
        password: of the login that it uses.
        namespace: where it runs.
        parent: of the Secret.
        files: what else it reads, by name.
    """
    scripts = {"run.sh": script(f"{name}.sh"), "connect.sh": script("connect.sh")}
    return Secret(
        name,
        metadata=unnamed(name, namespace.name),
        string_data={"password": password, "ca.crt": server.ca, **scripts, **(files or {})},
        immutable=True,
        opts=pulumi.ResourceOptions(parent=parent),
    )


def script(name: str) -> str:
    """The text of a file in scripts/."""
    return (SCRIPTS / name).read_text()


def client(name: str, image: str, server: Server, username: str) -> dict[str, Any]:
    """A container that runs a program of ours with the server's own tools.

    Args:
        name: of the program.
        image: of the server.
        server: that it works on.
        username: as whom.
    """
    folder = f"/run/secrets/{name}"
    environment = {
        "PGHOST": server.host,
        "PGPORT": str(server.endpoint.port),
        "PGDATABASE": DATABASE,
        "PGUSER": username,
        "PGSSLMODE": "verify-full",
        "PGSSLROOTCERT": f"{folder}/ca.crt",
        "PGCONNECT_TIMEOUT": "5",
    }
    return {
        "name": name,
        "image": image,
        "command": ["bash", f"{folder}/run.sh"],
        "workingDir": folder,
        "env": [{"name": name, "value": value} for name, value in environment.items()],
        "resources": resources("10m", "256Mi"),
        "securityContext": container_security(),
        "volumeMounts": [
            {"name": name, "mountPath": folder, "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - a volume of the pod's own
        ],
    }


def client_pod(container: dict[str, Any], secrets: Mapping[str, Secret]) -> dict[str, Any]:
    """A pod that runs a client once.

    Args:
        container: the client.
        secrets: the files of each client in it, by the client's name.
    """
    volumes = [
        {"name": name, "secret": {"secretName": secret.metadata.name, "defaultMode": 0o440}}
        for name, secret in secrets.items()
    ]
    return {
        **restricted_pod(UID),
        "restartPolicy": "Never",
        "containers": [container],
        "volumes": [*volumes, {"name": "tmp", "emptyDir": {}}],
    }
