"""Claims of volumes."""

from typing import Any

import pulumi
from pulumi_kubernetes.core.v1 import PersistentVolumeClaim

from infra.namespace import EstateNamespace
from infra.pods import manifest, metadata


def volume_claim(storage: str) -> dict[str, Any]:
    """The claim of a StatefulSet's `data` volume."""
    return {"metadata": {"name": "data"}, "spec": claimed(storage)}


def claim_of_jobs(
    name: str, storage: str, namespace: EstateNamespace, opts: pulumi.ResourceOptions
) -> PersistentVolumeClaim:
    """A claim that only Jobs use.

    Args:
        name: of the claim.
        storage: size of the volume, a Kubernetes quantity.
        namespace: where it is.
        opts: resource options.
    """
    # Where volumes are made for the first pod, it waits for that until a Job runs; Pulumi must not.
    late = {"annotations": {"pulumi.com/skipAwait": "true"}}
    spec = manifest(claimed(storage))
    return PersistentVolumeClaim(name, metadata=metadata(name, namespace.name) | late, spec=spec, opts=opts)


def claimed(storage: str) -> dict[str, Any]:
    """A volume for one node at a time."""
    return {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": storage}}}
