"""Postgres in the cluster, highly available: a primary and replicas, by the operator CloudNativePG."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
from pulumi_kubernetes.apiextensions import CustomResource
from pulumi_kubernetes.core.v1 import Secret
from pulumi_kubernetes.networking.v1 import NetworkPolicy

from infra.namespace import EstateNamespace
from infra.network_policy import Endpoint
from infra.pods import MANAGED_BY, labels, manifest, metadata, resources
from infra.postgres import DATABASE, NAME, PORT, USER
from infra.waiting import ROLLOUT

PRIMARY = f"{NAME}-rw"
"""The Service of whichever instance is the primary."""
AUTHORITY = f"{NAME}-ca"
"""The Secret with the certificate, `ca.crt`, by which clients know the server."""
MEMBERS = {"cnpg.io/cluster": NAME}
"""Labels of the instances' pods, and of the jobs that make them."""
OPERATOR_NAMESPACE = "cnpg-system"
STATUS_PORT = 8000


@dataclass(frozen=True)
class ApiServer:
    """The Kubernetes API as network policies see it: past its Service."""

    networks: Sequence[str]
    """CIDRs of its servers; never empty."""
    port: int = 6443


class PostgresCluster(pulumi.ComponentResource):
    """A database that outlives the loss of any one instance, with all that it has acknowledged."""

    endpoint = Endpoint(NAME, PORT)
    calls_back = False
    environment: dict[str, str]
    """What a service that uses the database has in its environment."""
    secrets: dict[str, pulumi.Output[str]]
    """Files that it has mounted: name and content."""

    def __init__(
        self,
        image: str,
        instances: int,
        storage: str,
        password: pulumi.Output[str],
        api_server: ApiServer,
        namespace: EstateNamespace,
        cpu: str = "50m",
    ) -> None:
        """Create the database.

        Args:
            image: reference of CloudNativePG's Postgres image or of one like it.
            instances: the primary and its replicas; three at least, or a failover could not know what was acknowledged.
            storage: size of each instance's volume, a Kubernetes quantity.
            password: of the database's owner.
            api_server: where the instances find the Kubernetes API.
            namespace: where it runs.
            cpu: what each instance has for certain, a Kubernetes quantity.
        """
        super().__init__("estate:postgres_cluster:PostgresCluster", NAME, {}, pulumi.ResourceOptions(parent=namespace))
        child = pulumi.ResourceOptions(parent=self)
        # Of a fixed name, since the instances follow its content, but not another Secret.
        owner = Secret(
            f"{NAME}-owner",
            metadata=manifest(
                {
                    "name": f"{NAME}-owner",
                    "namespace": namespace.name,
                    "labels": MANAGED_BY | {"cnpg.io/reload": "true"},
                }
            ),
            type="kubernetes.io/basic-auth",
            string_data={"username": USER, "password": password},
            opts=child,
        )
        policies = [
            NetworkPolicy(name, metadata=metadata(name, namespace.name), spec=manifest(spec), opts=child)
            for name, spec in flows(api_server).items()
        ]
        CustomResource(
            NAME,
            api_version="postgresql.cnpg.io/v1",
            kind="Cluster",
            metadata=manifest(
                {
                    "name": NAME,
                    "namespace": namespace.name,
                    "labels": labels(NAME),
                    "annotations": {
                        "pulumi.com/waitFor": "condition=Ready",
                        # No replica is promoted unless one of those at hand must have all that was acknowledged.
                        "alpha.cnpg.io/failoverQuorum": "true",
                    },
                }
            ),
            spec=cluster(image, instances, storage, owner.metadata.name, cpu),
            opts=pulumi.ResourceOptions(parent=self, depends_on=policies, custom_timeouts=ROLLOUT),
        )
        self.environment = {
            "APP_DATABASE_HOST": PRIMARY,
            "APP_DATABASE_PORT": str(PORT),
            "APP_DATABASE_NAME": DATABASE,
            "APP_DATABASE_USERNAME": USER,
            "APP_DATABASE_PASSWORD_FILE": "/run/secrets/app/database-password",
        }
        self.secrets = {"database-password": password}
        self.register_outputs({})


def cluster(image: str, instances: int, storage: str, owner: pulumi.Input[str], cpu: str) -> dict[str, Any]:
    """What the operator is asked for; the pods it makes are under `restricted` by themselves."""
    return {
        "imageName": image,
        "instances": instances,
        "inheritedMetadata": {"labels": labels(NAME)},
        "bootstrap": {"initdb": {"database": DATABASE, "owner": USER, "secret": {"name": owner}}},
        # The operator makes the password: Secret postgres-superuser.
        "enableSuperuserAccess": True,
        "storage": {"size": storage},
        "resources": resources(cpu, "256Mi"),
        "affinity": {
            "enablePodAntiAffinity": True,
            "podAntiAffinityType": "preferred",  # there may be one node only
            "topologyKey": "kubernetes.io/hostname",
        },
        "postgresql": {
            # A write is acknowledged once a replica has it; with no replica left it waits for one.
            "synchronous": {"method": "any", "number": 1, "dataDurability": "required"},
            # A replica that is long away is made anew, instead of filling the primary's volume.
            "parameters": {"max_slot_wal_keep_size": "1GB"},
        },
        "primaryUpdateStrategy": "unsupervised",
        "primaryUpdateMethod": "switchover",
        # Seconds in which an instance that is told to end does so; the operator's defaults are half an hour and more.
        "switchoverDelay": 20,
        "smartShutdownTimeout": 5,
        "stopDelay": 30,
        "probes": {"readiness": {"periodSeconds": 2, "timeoutSeconds": 3, "failureThreshold": 3}},
    }


def flows(api_server: ApiServer) -> dict[str, dict[str, Any]]:
    """Name and spec of each policy: the instances with each other, with the operator and with the Kubernetes API."""
    members = {"podSelector": {"matchLabels": MEMBERS}}
    operator = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": OPERATOR_NAMESPACE}},
        "podSelector": {"matchLabels": {"app.kubernetes.io/name": "cloudnative-pg"}},
    }
    each_other = tcp(PORT, STATUS_PORT)
    return {
        f"{NAME}-to-{NAME}": members | {"policyTypes": ["Egress"], "egress": [{"to": [members], "ports": each_other}]},
        f"{NAME}-from-{NAME}": members
        | {"policyTypes": ["Ingress"], "ingress": [{"from": [members], "ports": each_other}]},
        f"{NAME}-from-operator": members
        | {"policyTypes": ["Ingress"], "ingress": [{"from": [operator], "ports": tcp(STATUS_PORT)}]},
        f"{NAME}-to-api-server": members
        | {
            "policyTypes": ["Egress"],
            "egress": [
                {
                    "to": [{"ipBlock": {"cidr": cidr}} for cidr in api_server.networks],
                    "ports": tcp(api_server.port),
                }
            ],
        },
    }


def tcp(*ports: int) -> list[dict[str, Any]]:
    """Ports, as policies have them."""
    return [{"protocol": "TCP", "port": port} for port in ports]
