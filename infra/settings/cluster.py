"""Facts about the cluster: storage classes, the API server, the kubelets."""

from pydantic import Field

from infra.addresses import Network
from infra.settings.base import Settings
from infra.values import Size


class Storage(Settings):
    """Sizes of the volumes, as Kubernetes quantities."""

    postgres: Size = "2Gi"
    """Size for each instance of the database."""
    backups: Size = "2Gi"
    """Size for the dumps."""
    consul: Size = "256Mi"
    """Size for each server of the registry."""
    prometheus: Size = "2Gi"
    """Size for the metrics."""
    alertmanager: Size = "64Mi"
    """Size for the record of sent alerts, and for silences."""


class ApiServer(Settings):
    """The Kubernetes API as network policies see it: its endpoints, not its Service. `kubectl get endpointslices kubernetes` shows them."""

    networks: list[Network] = Field(min_length=1)
    """CIDRs of the API servers."""
    port: int = Field(default=6443, ge=1, le=65535)
    """Port on which it listens."""


class Kubelets(Settings):
    """The kubelets of the nodes, which know the resource usage of containers."""

    networks: list[Network] = Field(min_length=1)
    """CIDRs of the nodes."""
    port: int = Field(default=10250, ge=1, le=65535)
    """Port on which they listen."""
    verify: bool = True
    """Verification of their certificates, which are by the cluster's own authority; those of some clusters are by none."""
