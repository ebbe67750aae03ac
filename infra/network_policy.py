"""Who may connect to whom: nobody, but for names, and for the flows that follow from what the program declares."""

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
    """Where a workload listens: its pods, by their name, and their port; or what is outside the cluster, by its networks."""

    name: str
    port: int
    more: tuple[tuple[Protocol, int], ...] = ()
    """Other ports that go with it, with their protocols."""
    networks: tuple[str, ...] = ()
    """Where it is outside the cluster, as CIDRs; empty: it has pods."""

    @property
    def address(self) -> str:
        """host:port of its Service."""
        return f"{self.name}:{self.port}"

    @property
    def ports(self) -> list[dict[str, Any]]:
        """Its ports, as policies have them."""
        return [{"protocol": protocol, "port": port} for protocol, port in (("TCP", self.port), *self.more)]


def deny_by_default(namespace: pulumi.Input[str], parent: pulumi.Resource) -> NetworkPolicy:
    """Deny the pods of a namespace every connection but to DNS."""
    return NetworkPolicy(
        "default-deny",
        metadata=manifest({"name": "default-deny", "namespace": namespace, "labels": MANAGED_BY}),
        spec=manifest({"podSelector": {}, "policyTypes": ["Ingress", "Egress"], "ingress": [], "egress": [DNS]}),
        opts=pulumi.ResourceOptions(parent=parent),
    )


class Flow(pulumi.ComponentResource):
    """The pods of one workload may connect to those of another: as egress of the one, and ingress of the other.

    What is outside the cluster has no pods: there it is egress alone, to its networks.
    """

    def __init__(self, source: str, to: Endpoint, namespace: pulumi.Input[str], parent: pulumi.Resource) -> None:
        """Create the policies.

        Args:
            source: name of the workload that connects.
            to: what it connects to.
            namespace: of both, or of the one that has pods.
            parent: who needs the flow.
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
    """Let a workload's pods connect to what is outside the cluster.

    Args:
        source: name of the workload.
        to: what it connects to, for the policy's name.
        networks: where that is, as CIDRs; never empty.
        port: of it.
        namespace: of the workload.
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
    """Let a workload's pods connect to peers that are not of the estate.

    Args:
        peers: NetworkPolicyPeers; never empty, which would be everybody.
        source: name of the workload.
        to: what it connects to, for the policy's name.
        port: of it.
        namespace: of the workload.
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
        to: the workload.
        source: what the peers are called in the policy's name.
        peers: NetworkPolicyPeers; never empty, which would be everybody.
        namespace: of the workload.
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
