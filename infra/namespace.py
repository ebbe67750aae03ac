"""The namespace of a stack: Pod Security Standard `restricted`, and networking that is denied by default."""

from typing import Literal

import pulumi
from pulumi_kubernetes.core.v1 import Namespace

from infra.network_policy import deny_by_default
from infra.pods import MANAGED_BY, manifest


class EstateNamespace(pulumi.ComponentResource):
    """A namespace under a Pod Security Standard, whose pods can connect only to DNS unless a policy allows more."""

    name: pulumi.Output[str]

    def __init__(
        self,
        name: str,
        opts: pulumi.ResourceOptions | None = None,
        standard: Literal["restricted", "privileged"] = "restricted",
    ) -> None:
        """Create the namespace.

        Args:
            name: name of the Kubernetes namespace.
            opts: resource options.
            standard: Pod Security Standard of its pods (https://kubernetes.io/docs/concepts/security/pod-security-standards/).
        """
        super().__init__("estate:namespace:EstateNamespace", name, {}, opts)
        security = {f"pod-security.kubernetes.io/{mode}": standard for mode in ("enforce", "audit", "warn")}
        namespace = Namespace(
            name,
            metadata=manifest({"name": name, "labels": MANAGED_BY | security}),
            opts=pulumi.ResourceOptions(parent=self, custom_timeouts=pulumi.CustomTimeouts(delete="5m")),
        )
        # Resources that use this name wait for the namespace and for the default-deny policy.
        self.name = deny_by_default(namespace.metadata.name, self).metadata.namespace
        self.register_outputs({"name": self.name})
