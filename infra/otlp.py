"""Network access to receivers of OTLP, for spans or logs."""

import pulumi
from pulumi_kubernetes.networking.v1 import NetworkPolicy

from infra.network_policy import leaving_to
from infra.settings.observability import OtlpSettings


def leaving_to_otlp(
    settings: OtlpSettings, source: str, to: str, namespace: pulumi.Input[str], opts: pulumi.ResourceOptions
) -> NetworkPolicy:
    """Let a workload's pods connect to a receiver of OTLP.

    Args:
        settings: settings of the receiver.
        source: name of the workload.
        to: kind of data that it receives, for the policy's name.
        namespace: namespace of the workload.
        opts: resource options.
    """
    if settings.namespace:
        peers = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": settings.namespace}}}]
    else:
        peers = [{"ipBlock": {"cidr": cidr}} for cidr in settings.networks]
    return leaving_to(peers, source, to, settings.port, namespace, opts)
