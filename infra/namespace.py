"""The namespace of a stack, which admits only pods that ask for nothing, and lets none connect that is not named."""

from typing import Literal

import pulumi
from pulumi_kubernetes.core.v1 import Namespace

from infra.network_policy import deny_by_default
from infra.pods import MANAGED_BY, manifest


class EstateNamespace(pulumi.ComponentResource):
    """A namespace under a Pod Security Standard, whose pods connect to nothing but DNS."""

    name: pulumi.Output[str]

    def __init__(
        self,
        name: str,
        opts: pulumi.ResourceOptions | None = None,
        standard: Literal["restricted", "privileged"] = "restricted",
    ) -> None:
        """Create the namespace.

        Args:
            name: of the namespace itself.
            opts: resource options.
            standard: what its pods are held to (https://kubernetes.io/docs/concepts/security/pod-security-standards/).
        """
        super().__init__("estate:namespace:EstateNamespace", name, {}, opts)
        security = {f"pod-security.kubernetes.io/{mode}": standard for mode in ("enforce", "audit", "warn")}
        namespace = Namespace(
            name,
            metadata=manifest({"name": name, "labels": MANAGED_BY | security}),
            opts=pulumi.ResourceOptions(parent=self, custom_timeouts=pulumi.CustomTimeouts(delete="5m")),
        )
        # What names the namespace by this waits for it, and for the denial.
        self.name = deny_by_default(namespace.metadata.name, self).metadata.namespace
        self.register_outputs({"name": self.name})
