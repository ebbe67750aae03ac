"""Postgres in the cluster: one instance on a volume of its own."""

from typing import Any

import pulumi
from pulumi_kubernetes.apps.v1 import StatefulSet
from pulumi_kubernetes.core.v1 import ConfigMap, Secret, Service

from infra.authority import Authority
from infra.database_names import ADMIN, DATABASE
from infra.namespace import EstateNamespace
from infra.network_policy import Endpoint
from infra.pods import container_security, labels, manifest, metadata, resources, restricted_pod, selector, unnamed
from infra.volumes import claim_template, claims_of, on_claims

NAME = "postgres"
UID = 999  # of the upstream image
PORT = 5432
READY = ["pg_isready", "--host=127.0.0.1", f"--username={ADMIN}", f"--dbname={DATABASE}"]
CONFIGURATION, SECRETS = "/etc/postgres", "/run/secrets/postgres"
HBA = """\
# Inside the pod, whoever is the user postgres. From elsewhere, whoever has a password, and by TLS alone.
local   all all     peer
hostssl all all all scram-sha-256
"""
LOGGING = {
    "log_error_verbosity": "terse",
    "log_min_error_statement": "panic",
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
}
"""Parameters that keep the contents of rows out of the log, which is sent on: an error's DETAIL quotes a duplicate address, and statements
that are written by hand contain values."""
PARAMETERS = LOGGING | {
    "hba_file": f"{CONFIGURATION}/pg_hba.conf",
    "ssl": "on",
    "ssl_cert_file": f"{SECRETS}/tls.crt",
    "ssl_key_file": f"{SECRETS}/tls.key",
    "password_encryption": "scram-sha-256",
}


class Postgres(pulumi.ComponentResource):
    """A database server with one empty database, and only the superuser's role."""

    endpoint = Endpoint(NAME, PORT)
    host = NAME
    admin = ADMIN
    ca: pulumi.Output[str]

    def __init__(
        self, image: str, storage: str, password: pulumi.Output[str], authority: Authority, namespace: EstateNamespace
    ) -> None:
        """Create the database.

        Args:
            image: reference of the upstream image, or of a compatible one.
            storage: size of the volume, a Kubernetes quantity.
            password: password of the superuser.
            authority: issuer of the server's certificate.
            namespace: namespace that it runs in.
        """
        super().__init__("estate:postgres:Postgres", NAME, {}, pulumi.ResourceOptions(parent=namespace))
        child = pulumi.ResourceOptions(parent=self)
        secret = Secret(
            NAME,
            metadata=unnamed(NAME, namespace.name),
            string_data={"password": password, **authority.issue(NAME, [NAME])},
            immutable=True,
            opts=child,
        )
        configuration = ConfigMap(
            NAME,
            metadata=unnamed(NAME, namespace.name),
            data={"pg_hba.conf": HBA},
            immutable=True,
            opts=child,
        )
        service = Service(
            NAME,
            metadata=metadata(NAME, namespace.name),
            spec=manifest({"clusterIP": "None", "selector": selector(NAME), "ports": [{"name": NAME, "port": PORT}]}),
            opts=child,
        )
        claims = claims_of(NAME, storage, namespace, self)
        StatefulSet(
            NAME,
            metadata=metadata(NAME, namespace.name),
            spec=manifest(
                {
                    "serviceName": NAME,
                    "replicas": 1,
                    "podManagementPolicy": "Parallel",  # a pod that never became ready is replaced too
                    "selector": {"matchLabels": selector(NAME)},
                    "template": {
                        "metadata": {"labels": labels(NAME)},
                        "spec": pod(image, secret.metadata.name, configuration.metadata.name),
                    },
                    "volumeClaimTemplates": [claim_template(storage)],
                }
            ),
            opts=on_claims(self, service, *claims),
        )
        self.ca = authority.certificate
        self.register_outputs({})


def pod(image: str, secret: pulumi.Input[str], configuration: pulumi.Input[str]) -> dict[str, Any]:
    """Return the database's pod."""
    return {
        **restricted_pod(UID),
        "terminationGracePeriodSeconds": 60,
        "containers": [
            {
                "name": NAME,
                "image": image,
                "args": [
                    "postgres",
                    *(word for name, value in PARAMETERS.items() for word in ("-c", f"{name}={value}")),
                ],
                "ports": [{"name": NAME, "containerPort": PORT}],
                "env": [
                    {"name": "POSTGRES_USER", "value": ADMIN},
                    {"name": "POSTGRES_DB", "value": DATABASE},
                    {"name": "POSTGRES_PASSWORD_FILE", "value": f"{SECRETS}/password"},
                    # A folder in the volume: its root may hold lost+found.
                    {"name": "PGDATA", "value": "/var/lib/postgresql/data/pgdata"},
                ],
                "startupProbe": {"exec": {"command": READY}, "periodSeconds": 1, "failureThreshold": 120},
                "readinessProbe": {"exec": {"command": READY}, "periodSeconds": 5, "timeoutSeconds": 3},
                "livenessProbe": {
                    "tcpSocket": {"port": NAME},
                    "periodSeconds": 10,
                    "timeoutSeconds": 5,
                    "failureThreshold": 6,
                },
                "resources": resources("50m", "512Mi"),
                "securityContext": container_security(),
                "volumeMounts": [
                    {"name": "data", "mountPath": "/var/lib/postgresql/data"},
                    {"name": "secrets", "mountPath": SECRETS, "readOnly": True},
                    {"name": "configuration", "mountPath": CONFIGURATION, "readOnly": True},
                    {"name": "run", "mountPath": "/var/run/postgresql"},
                    {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - a volume of the pod's own
                ],
            }
        ],
        "volumes": [
            # The key belongs to root and is readable by its group: Postgres accepts no wider permissions.
            {"name": "secrets", "secret": {"secretName": secret, "defaultMode": 0o440}},
            {"name": "configuration", "configMap": {"name": configuration}},
            {"name": "run", "emptyDir": {}},
            {"name": "tmp", "emptyDir": {}},
        ],
    }
