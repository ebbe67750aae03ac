"""Volume claims as resources of their own, so that another size is a change of the claim, which Kubernetes makes in place or refuses."""

from typing import Any

import pulumi
from pulumi_kubernetes.core.v1 import PersistentVolumeClaim

from infra.namespace import EstateNamespace
from infra.pods import manifest, metadata
from infra.waiting import ROLLOUT

TEMPLATE = "data"
"""The volume's name in the pods of a StatefulSet."""


def claim_template(storage: str) -> dict[str, Any]:
    """Return the template from which a StatefulSet recreates a deleted claim."""
    return {"metadata": {"name": TEMPLATE}, "spec": claimed(storage)}


def claims_of(
    name: str, storage: str, namespace: EstateNamespace, parent: pulumi.Resource, replicas: int = 1
) -> list[pulumi.Resource]:
    """Declare the claims of a StatefulSet, by the names that it looks for; claims that exist already are adopted.

    Args:
        name: name of the StatefulSet.
        storage: size of each volume, a Kubernetes quantity.
        namespace: namespace of the claim.
        parent: the component that they belong to.
        replicas: replicas of the StatefulSet.
    """
    return [volume_claim(f"{TEMPLATE}-{name}-{number}", storage, namespace, parent, name) for number in range(replicas)]


def on_claims(parent: pulumi.Resource, *before: pulumi.Resource) -> pulumi.ResourceOptions:
    """Return the options of a StatefulSet whose claims are declared.

    Changes of its claim template are ignored, whatever happens to the claims: Kubernetes would need another StatefulSet for them.

    Args:
        parent: the component that it belongs to.
        before: its claims, and other resources that have to exist first.
    """
    return pulumi.ResourceOptions(
        parent=parent, depends_on=before, custom_timeouts=ROLLOUT, ignore_changes=["spec.volumeClaimTemplates"]
    )


def volume_claim(
    name: str, storage: str, namespace: EstateNamespace, parent: pulumi.Resource, workload: str | None = None
) -> PersistentVolumeClaim:
    """Declare a claim. It is deleted only with its namespace: if the program no longer declares it, it stays in the cluster.

    Args:
        name: name of the claim.
        storage: size of the volume, a Kubernetes quantity.
        namespace: namespace of the claim.
        parent: the component that it belongs to.
        workload: workload whose labels it has; absent: labels from its own name.
    """
    # If volumes are created for the first pod, the claim waits for that pod; Pulumi must not.
    late = {"annotations": {"pulumi.com/skipAwait": "true"}}
    return PersistentVolumeClaim(
        name,
        metadata=metadata(workload or name, namespace.name) | {"name": name} | late,
        spec=manifest(claimed(storage)),
        opts=pulumi.ResourceOptions(parent=parent, retain_on_delete=True),
    )


def claimed(storage: str) -> dict[str, Any]:
    """Return the spec of a volume for one node at a time."""
    return {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": storage}}}
