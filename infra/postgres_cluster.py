"""Postgres in the cluster, highly available: a primary and replicas, run by the operator CloudNativePG."""

from collections.abc import Mapping
from typing import Any

import pulumi
from pulumi_kubernetes.apiextensions import CustomResource
from pulumi_kubernetes.core.v1 import Secret
from pulumi_kubernetes.networking.v1 import NetworkPolicy

from infra.authority import Authority
from infra.database_names import ADMIN, DATABASE, OWNER
from infra.namespace import EstateNamespace
from infra.network_policy import Endpoint
from infra.pods import MANAGED_BY, labels, manifest, metadata, resources
from infra.postgres import LOGGING, NAME, PORT
from infra.settings.cluster import ApiServer
from infra.stack_secrets import DatabaseSecrets

PRIMARY = f"{NAME}-rw"
"""Service of the current primary."""
INSTANCES = 3
"""Number of instances, a primary and replicas; with fewer, a failover could not know what was acknowledged."""
MEMBERS = {"cnpg.io/cluster": NAME}
"""Labels of the instances' pods, and of the Jobs that create them."""
ONE_BY_ONE = pulumi.CustomTimeouts(create="15m", update="15m", delete="5m")
"""Timeouts for instances that get their volumes, pull their images and join one after another."""
OPERATOR_NAMESPACE = "cnpg-system"
STATUS_PORT = 8000


class PostgresCluster(pulumi.ComponentResource):
    """A database that survives the loss of any one instance, with everything that it has acknowledged."""

    endpoint = Endpoint(NAME, PORT)
    host = PRIMARY
    admin = ADMIN
    ca: pulumi.Output[str]

    def __init__(
        self,
        image: str,
        storage: str,
        secrets: DatabaseSecrets,
        authority: Authority,
        api_server: ApiServer,
        namespace: EstateNamespace,
    ) -> None:
        """Create the database.

        Args:
            image: reference of CloudNativePG's Postgres image or of one like it.
            storage: size of each instance's volume, a Kubernetes quantity.
            secrets: passwords of the superuser and of the owner.
            authority: issuer of the servers' certificate.
            api_server: address of the Kubernetes API, which the instances use.
            namespace: namespace that it runs in.
        """
        super().__init__("estate:postgres_cluster:PostgresCluster", NAME, {}, pulumi.ResourceOptions(parent=namespace))
        child = pulumi.ResourceOptions(parent=self)
        owner = reloaded("owner", login(OWNER, secrets.owner), namespace, child)
        superuser = reloaded("admin", login(ADMIN, secrets.admin), namespace, child)
        server = reloaded("server", authority.issue(NAME, [PRIMARY, f"{NAME}-r", f"{NAME}-ro"]), namespace, child)
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
                        # A replica is promoted only if one of the reachable replicas must have everything that was acknowledged.
                        "alpha.cnpg.io/failoverQuorum": "true",
                    },
                }
            ),
            spec=cluster(image, storage, *(secret.metadata.name for secret in (owner, superuser, server))),
            opts=pulumi.ResourceOptions(parent=self, depends_on=policies, custom_timeouts=ONE_BY_ONE),
        )
        self.ca = authority.certificate
        self.register_outputs({})


def reloaded(
    name: str, content: Mapping[str, pulumi.Input[str]], namespace: EstateNamespace, opts: pulumi.ResourceOptions
) -> Secret:
    """Create a Secret with a fixed name, since the instances reload its content, but do not follow a change of its name."""
    full = f"{NAME}-{name}"
    return Secret(
        full,
        metadata=metadata(full, namespace.name) | {"labels": MANAGED_BY | {"cnpg.io/reload": "true"}},
        type="kubernetes.io/tls" if "tls.crt" in content else "kubernetes.io/basic-auth",
        string_data=content,
        opts=opts,
    )


def login(username: str, password: pulumi.Output[str]) -> dict[str, pulumi.Input[str]]:
    """Return the content of a Secret of type kubernetes.io/basic-auth."""
    return {"username": username, "password": password}


def cluster(
    image: str,
    storage: str,
    owner: pulumi.Input[str],
    superuser: pulumi.Input[str],
    server: pulumi.Input[str],
) -> dict[str, Any]:
    """Return the spec of the operator's Cluster; the pods that it creates comply with `restricted` by themselves.

    Args:
        image: image of the instances.
        storage: size of each instance's volume.
        owner: Secret with the database's owner.
        superuser: Secret with the superuser.
        server: Secret with the servers' certificate, and with the authority's.
    """
    return {
        "imageName": image,
        "instances": INSTANCES,
        "inheritedMetadata": {"labels": labels(NAME)},
        "bootstrap": {"initdb": {"database": DATABASE, "owner": OWNER, "secret": {"name": owner}}},
        "enableSuperuserAccess": True,
        "superuserSecret": {"name": superuser},
        "certificates": {"serverTLSSecret": server, "serverCASecret": server},
        "storage": {"size": storage},
        "resources": resources("50m", "512Mi"),
        "affinity": {
            "enablePodAntiAffinity": True,
            "podAntiAffinityType": "preferred",  # there may be one node only
            "topologyKey": "kubernetes.io/hostname",
        },
        "postgresql": {
            # A write is acknowledged once a replica has it; with no replica left it waits for one.
            "synchronous": {"method": "any", "number": 1, "dataDurability": "required"},
            # A replica that is away for long is created again, instead of filling the primary's volume.
            "pg_hba": ["hostnossl all all all reject"],
            # The operator reads the log as CSV, in which even terse errors have their DETAIL: clients log their errors.
            "parameters": {"max_slot_wal_keep_size": "1GB", **LOGGING, "log_min_messages": "log"},
        },
        "primaryUpdateStrategy": "unsupervised",
        "primaryUpdateMethod": "switchover",
        # Seconds within which an instance shuts down; the operator's defaults are half an hour and more.
        "switchoverDelay": 20,
        "smartShutdownTimeout": 5,
        "stopDelay": 30,
        "probes": {"readiness": {"periodSeconds": 2, "timeoutSeconds": 3, "failureThreshold": 3}},
    }


def flows(api_server: ApiServer) -> dict[str, dict[str, Any]]:
    """Return name and spec of each policy: the instances with each other, with the operator and with the Kubernetes API."""
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
    """Return TCP ports as NetworkPolicyPorts."""
    return [{"protocol": "TCP", "port": port} for port in ports]
