"""The namespace of a stack, which admits only pods that ask for nothing, and lets none connect that is not named."""

import pulumi
from pulumi_kubernetes.core.v1 import Namespace

from infra.network_policy import deny_by_default
from infra.pods import MANAGED_BY, manifest


class EstateNamespace(pulumi.ComponentResource):
    """A namespace under the Pod Security Standard `restricted`."""

    name: pulumi.Output[str]

    def __init__(self, name: str, opts: pulumi.ResourceOptions | None = None) -> None:
        """Create the namespace.

        Args:
            name: of the namespace itself.
            opts: resource options.
        """
        super().__init__("estate:namespace:EstateNamespace", name, {}, opts)
        security = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "audit", "warn")}
        namespace = Namespace(
            name,
            metadata=manifest({"name": name, "labels": MANAGED_BY | security}),
            opts=pulumi.ResourceOptions(parent=self, custom_timeouts=pulumi.CustomTimeouts(delete="5m")),
        )
        # What names the namespace by this waits for it, and for the denial.
        self.name = deny_by_default(namespace.metadata.name, self).metadata.namespace
        self.register_outputs({"name": self.name})
