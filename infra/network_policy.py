"""Network policies: deny by default; allow DNS, and the flows that follow from what the program declares."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pulumi
from pulumi_kubernetes.networking.v1 import NetworkPolicy

from infra.pods import MANAGED_BY, manifest, metadata, selector

Protocol = Literal["TCP", "UDP"]
DNS = {
    "to": [
        {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
            "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
        }
    ],
    # Policies see the pod's port, not the Service's: 1053 where the servers run without root.
    "ports": [{"protocol": protocol, "port": port} for port in (53, 1053) for protocol in ("UDP", "TCP")],
}


@dataclass(frozen=True)
class Endpoint:
    """An address that flows lead to: a workload's pods, by name and port, or networks outside the cluster."""

    name: str
    port: int
    more: tuple[tuple[Protocol, int], ...] = ()
    """Further ports, with their protocols."""
    networks: tuple[str, ...] = ()
    """CIDRs of an endpoint outside the cluster; empty: it has pods."""

    @property
    def address(self) -> str:
        """Return host:port of its Service."""
        return f"{self.name}:{self.port}"

    @property
    def ports(self) -> list[dict[str, Any]]:
        """Return its ports as NetworkPolicyPorts."""
        return [{"protocol": protocol, "port": port} for protocol, port in (("TCP", self.port), *self.more)]


def deny_by_default(namespace: pulumi.Input[str], parent: pulumi.Resource) -> NetworkPolicy:
    """Deny the pods of a namespace every connection except to DNS."""
    return NetworkPolicy(
        "default-deny",
        metadata=manifest({"name": "default-deny", "namespace": namespace, "labels": MANAGED_BY}),
        spec=manifest({"podSelector": {}, "policyTypes": ["Ingress", "Egress"], "ingress": [], "egress": [DNS]}),
        opts=pulumi.ResourceOptions(parent=parent),
    )


class Flow(pulumi.ComponentResource):
    """Policies that let the pods of one workload connect to those of another: egress of the one, and ingress of the other.

    An endpoint outside the cluster has no pods: for it, there is only egress to its networks.
    """

    def __init__(self, source: str, to: Endpoint, namespace: pulumi.Input[str], parent: pulumi.Resource) -> None:
        """Create the policies.

        Args:
            source: name of the workload that connects.
            to: endpoint that it connects to.
            namespace: namespace of both, or of the one that has pods.
            parent: component that needs the flow.
        """
        name = f"{source}-to-{to.name}"
        super().__init__("estate:network_policy:Flow", name, {}, pulumi.ResourceOptions(parent=parent))
        child = pulumi.ResourceOptions(parent=self)
        pods = {"podSelector": {"matchLabels": selector(to.name)}}
        outside = [{"ipBlock": {"cidr": cidr}} for cidr in to.networks]
        NetworkPolicy(
            name,
            metadata=metadata(name, namespace),
            spec=manifest(
                {
                    "podSelector": {"matchLabels": selector(source)},
                    "policyTypes": ["Egress"],
                    "egress": [{"to": outside or [pods], "ports": to.ports}],
                }
            ),
            opts=child,
        )
        if not outside:
            entering(to, source, [{"podSelector": {"matchLabels": selector(source)}}], namespace, child)
        self.register_outputs({})


def leaving(
    source: str, to: str, networks: Sequence[str], port: int, namespace: pulumi.Input[str], opts: pulumi.ResourceOptions
) -> NetworkPolicy:
    """Let a workload's pods connect to networks outside the cluster.

    Args:
        source: name of the workload.
        to: name of the destination, for the policy's name.
        networks: CIDRs of the destination; never empty.
        port: port of the destination.
        namespace: namespace of the workload.
        opts: resource options.
    """
    return leaving_to([{"ipBlock": {"cidr": cidr}} for cidr in networks], source, to, port, namespace, opts)


def leaving_to(
    peers: Sequence[dict[str, Any]],
    source: str,
    to: str,
    port: int,
    namespace: pulumi.Input[str],
    opts: pulumi.ResourceOptions,
) -> NetworkPolicy:
    """Let a workload's pods connect to peers outside the estate.

    Args:
        peers: NetworkPolicyPeers; never empty, which would allow every peer.
        source: name of the workload.
        to: name of the destination, for the policy's name.
        port: port of the destination.
        namespace: namespace of the workload.
        opts: resource options.
    """
    name = f"{source}-to-{to}"
    outside = {"to": peers, "ports": [{"protocol": "TCP", "port": port}]}
    return NetworkPolicy(
        name,
        metadata=metadata(name, namespace),
        spec=manifest(
            {"podSelector": {"matchLabels": selector(source)}, "policyTypes": ["Egress"], "egress": [outside]}
        ),
        opts=opts,
    )


def entering(
    to: Endpoint,
    source: str,
    peers: Sequence[dict[str, Any]],
    namespace: pulumi.Input[str],
    opts: pulumi.ResourceOptions,
) -> NetworkPolicy:
    """Let peers connect to a workload's pods.

    Args:
        to: endpoint of the workload.
        source: name of the peers, for the policy's name.
        peers: NetworkPolicyPeers; never empty, which would allow every peer.
        namespace: namespace of the workload.
        opts: resource options.
    """
    name = f"{to.name}-from-{source}"
    return NetworkPolicy(
        name,
        metadata=metadata(name, namespace),
        spec=manifest(
            {
                "podSelector": {"matchLabels": selector(to.name)},
                "policyTypes": ["Ingress"],
                "ingress": [{"from": peers, "ports": to.ports}],
            }
        ),
        opts=opts,
    )
