"""Rules about the ownership of resources and their protection from deletion."""

from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from typing import Annotated

from policies.resources import Resource, at

CLUSTER_WIDE = {
    "APIService", "CSIDriver", "ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition", "IngressClass",
    "MutatingWebhookConfiguration", "Namespace", "PersistentVolume", "PriorityClass", "RuntimeClass", "StorageClass",
    "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding", "ValidatingWebhookConfiguration",
}  # fmt: skip
"""Kinds that are in no namespace."""


def no_default_namespace(
    resource: Resource,
    clusterwide: Annotated[Sequence[str], "Further kinds that are in no namespace"] = ("ClusterIssuer",),
) -> Iterator[str]:
    """Forbid the namespace `default`: no owner, quota, network policy or Pod Security level guards it (CIS Kubernetes Benchmark 5.7.4)."""
    namespaced = resource.is_object and resource.kind not in CLUSTER_WIDE.union(clusterwide)
    if namespaced and resource.namespace in (None, "default"):
        yield "is in the default namespace: set metadata.namespace"


def owner_labels(
    resource: Resource,
    labels: Annotated[Sequence[str], "Labels that every object has"] = (
        "app.kubernetes.io/part-of",
        "app.kubernetes.io/managed-by",
    ),
) -> Iterator[str]:
    """Require labels that name the owner, so that whoever finds an object finds its owner (https://kubernetes.io/docs/concepts/overview/working-with-objects/common-labels/)."""
    if not resource.is_object:
        return
    if missing := [label for label in labels if at(resource.properties, "metadata", "labels", label) in (None, "")]:
        yield f"does not say whose it is: set {' and '.join(missing)} in metadata.labels"


def protected_state(
    resource: Resource,
    types: Annotated[Sequence[str], "Patterns of Pulumi's types of what holds data"] = (
        "kubernetes:apps/v*:StatefulSet",
        "kubernetes:core/v1:Namespace",
        "kubernetes:core/v1:PersistentVolume*",
        "kubernetes:postgresql.cnpg.io/v*:Cluster",
    ),
) -> Iterator[str]:
    """Require protection of resources that hold data: those that a mistake in a program deletes are gone, and with a namespace everything in it (https://www.pulumi.com/docs/iac/concepts/resources/options/protect/)."""
    if any(fnmatch(resource.type, pattern) for pattern in types) and not resource.protected:
        yield "holds data and can be deleted: give it the resource option protect=True"
