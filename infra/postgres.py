"""Postgres in the cluster: one instance on a volume of its own."""

from typing import Any

import pulumi
from pulumi_kubernetes.apps.v1 import StatefulSet
from pulumi_kubernetes.core.v1 import Secret, Service

from infra.namespace import EstateNamespace
from infra.network_policy import Endpoint
from infra.pods import container_security, labels, manifest, metadata, pod_security, resources, selector
from infra.waiting import ROLLOUT

NAME = "postgres"
DATABASE, USER = "myapp", "myuser"
UID = 999  # of the upstream image
PORT = 5432
READY = ["pg_isready", "--host=127.0.0.1", f"--username={USER}", f"--dbname={DATABASE}"]


class Postgres(pulumi.ComponentResource):
    """A database, and how our services reach it."""

    endpoint = Endpoint(NAME, PORT)
    calls_back = False
    environment: dict[str, str]
    """What a service that uses the database has in its environment."""

    def __init__(self, image: str, storage: str, password: pulumi.Output[str], namespace: EstateNamespace) -> None:
        """Create the database.

        Args:
            image: reference of the upstream image or of one like it.
            storage: size of the volume, a Kubernetes quantity.
            password: of the database's owner.
            namespace: where it runs.
        """
        super().__init__("estate:postgres:Postgres", NAME, {}, pulumi.ResourceOptions(parent=namespace))
        child = pulumi.ResourceOptions(parent=self)
        secret = Secret(
            NAME,
            metadata=manifest({"namespace": namespace.name}),
            string_data={"password": password},
            immutable=True,
            opts=child,
        )
        service = Service(
            NAME,
            metadata=metadata(NAME, namespace.name),
            spec=manifest({"clusterIP": "None", "selector": selector(NAME), "ports": [{"name": NAME, "port": PORT}]}),
            opts=child,
        )
        StatefulSet(
            NAME,
            metadata=metadata(NAME, namespace.name),
            spec=manifest(
                {
                    "serviceName": NAME,
                    "replicas": 1,
                    "podManagementPolicy": "Parallel",  # a pod that never became ready is replaced too
                    "selector": {"matchLabels": selector(NAME)},
                    "template": {"metadata": {"labels": labels(NAME)}, "spec": pod(image, secret.metadata.name)},
                    "volumeClaimTemplates": [volume_claim(storage)],
                }
            ),
            opts=pulumi.ResourceOptions(parent=self, depends_on=[service], custom_timeouts=ROLLOUT),
        )
        self.environment = {
            "APP_DATABASE_HOST": NAME,
            "APP_DATABASE_PORT": str(PORT),
            "APP_DATABASE_NAME": DATABASE,
            "APP_DATABASE_USERNAME": USER,
            "APP_DATABASE_PASSWORD_FILE": "/run/secrets/app/database-password",
        }
        self._secrets = {"database-password": password}
        self.register_outputs({})

    def secrets_of(self, _app: str, /) -> dict[str, pulumi.Output[str]]:
        """Files that a service has mounted: name and content."""
        return self._secrets


def volume_claim(storage: str) -> dict[str, Any]:
    """The claim of the `data` volume."""
    return {
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": storage}}},
    }


def pod(image: str, secret: pulumi.Input[str]) -> dict[str, Any]:
    """The database's pod."""
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 60,
        "securityContext": pod_security(UID),
        "containers": [
            {
                "name": NAME,
                "image": image,
                "ports": [{"name": NAME, "containerPort": PORT}],
                "env": [
                    {"name": "POSTGRES_USER", "value": USER},
                    {"name": "POSTGRES_DB", "value": DATABASE},
                    {"name": "POSTGRES_PASSWORD_FILE", "value": "/run/secrets/postgres/password"},
                    # A folder in the volume: its root may hold lost+found.
                    {"name": "PGDATA", "value": "/var/lib/postgresql/data/pgdata"},
                ],
                "startupProbe": {"exec": {"command": READY}, "periodSeconds": 1, "failureThreshold": 120},
                "readinessProbe": {"exec": {"command": READY}, "periodSeconds": 5, "timeoutSeconds": 3},
                "livenessProbe": {
                    "exec": {"command": READY},
                    "periodSeconds": 10,
                    "timeoutSeconds": 5,
                    "failureThreshold": 6,
                },
                "resources": resources("100m", "256Mi"),
                "securityContext": container_security(),
                "volumeMounts": [
                    {"name": "data", "mountPath": "/var/lib/postgresql/data"},
                    {"name": "password", "mountPath": "/run/secrets/postgres", "readOnly": True},
                    {"name": "run", "mountPath": "/var/run/postgresql"},
                    {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - a volume of the pod's own
                ],
            }
        ],
        "volumes": [
            {"name": "password", "secret": {"secretName": secret, "defaultMode": 0o440}},
            {"name": "run", "emptyDir": {}},
            {"name": "tmp", "emptyDir": {}},
        ],
    }
