"""The database as its clients see it, whoever operates it: a server, logins to it, and programs in its own image."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import pulumi
from pulumi_kubernetes.core.v1 import Secret

from infra.database_names import DATABASE
from infra.namespace import EstateNamespace
from infra.network_policy import Endpoint
from infra.pods import container_security, resources, restricted_pod, unnamed

UID = 10003
"""UID of our client programs. Any would do, since it owns no file of the server."""
SCRIPTS = Path(__file__).parent / "scripts"
SECRETS_FOLDER = "/run/secrets/app"


class Server(Protocol):
    """A Postgres server with TLS and the database DATABASE."""

    @property
    def endpoint(self) -> Endpoint:
        """Return the endpoint at which it listens."""
        ...

    @property
    def host(self) -> str:
        """Return its host name, which its certificate has too."""
        ...

    @property
    def admin(self) -> str:
        """Return the login that creates the roles."""
        ...

    ca: pulumi.Output[str]
    """Certificate authority of its certificate, as PEM."""


class Login:
    """A login as the dependency of a service, with name and password in files, so that they change together."""

    calls_back = False

    def __init__(self, server: Server, username: pulumi.Input[str], password: pulumi.Input[str]) -> None:
        """Describe how a service logs in.

        Args:
            server: the server to log in to.
            username: name of the login.
            password: password of the login.
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
        """Return the files that a service needs mounted, contents by name."""
        return self._secrets


def client_secret(
    name: str,
    server: Server,
    password: pulumi.Input[str],
    namespace: EstateNamespace,
    parent: pulumi.Resource,
    files: Mapping[str, pulumi.Input[str]] | None = None,
) -> Secret:
    """Create the Secret with the files of a program that `client` runs: scripts/<name>.sh and what it reads.

    Args:
        name: name of the program.
        server: the server that it works on.
        password: password of its login.
        namespace: namespace that it runs in.
        parent: parent of the Secret.
        files: further files that it reads, contents by name.
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
    """Return the text of a file in scripts/."""
    return (SCRIPTS / name).read_text()


def client(name: str, image: str, server: Server, username: str) -> dict[str, Any]:
    """Return a container that runs one of our programs with the server's own tools.

    Args:
        name: name of the program.
        image: image of the server.
        server: the server that it works on.
        username: name of its login.
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
    """Return a pod that runs a client once.

    Args:
        container: the client's container.
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
