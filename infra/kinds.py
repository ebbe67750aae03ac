"""Choose the Postgres and Consul implementations that the stack selects."""

import pulumi

from infra.authority import Authority
from infra.consul import Consul
from infra.consul_access import Keys
from infra.consul_cluster import ConsulCluster
from infra.managed_postgres import ManagedPostgres
from infra.namespace import EstateNamespace
from infra.postgres import Postgres
from infra.postgres_cluster import PostgresCluster
from infra.services import GATEWAY, NAMES
from infra.settings.stack import StackSettings
from infra.stack_secrets import DatabaseSecrets


def database_server(
    settings: StackSettings, secrets: DatabaseSecrets, authority: Authority, namespace: EstateNamespace
) -> Postgres | PostgresCluster | ManagedPostgres:
    """Create one instance or a cluster with an operator, or use a managed server (`postgres.kind`)."""
    if settings.postgres.managed:
        return ManagedPostgres(settings.postgres.managed)
    images, storage = settings.images, settings.storage.postgres
    if settings.postgres.kind == "instance":
        return Postgres(images.postgres, storage, secrets.admin, authority, namespace)
    return PostgresCluster(images.postgres_cluster, storage, secrets, authority, settings.api_server, namespace)


def registry(
    settings: StackSettings, seed: pulumi.Output[str], authority: Authority, namespace: EstateNamespace
) -> Consul | ConsulCluster:
    """Create one server, or three with an agent on each node (`consul.servers`)."""
    image, storage = settings.images.consul, settings.storage.consul
    if settings.consul.servers == 1:
        return Consul(image, storage, namespace)
    return ConsulCluster(image, storage, Keys(seed), authority, NAMES, GATEWAY, namespace)
