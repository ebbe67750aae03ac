"""Resource transformations: protect resources that hold data, and let the program's declarations win conflicts."""

from typing import Any, cast

import pulumi

STATE = {
    "kubernetes:core/v1:Namespace",  # deleting it deletes everything in it
    "kubernetes:core/v1:PersistentVolumeClaim",
    "kubernetes:apps/v1:StatefulSet",
    "kubernetes:postgresql.cnpg.io/v1:Cluster",
}


def protect_state(args: pulumi.ResourceTransformationArgs) -> pulumi.ResourceTransformationResult | None:
    """Make Pulumi refuse to delete or replace resources that hold data."""
    if args.type_ not in STATE:
        return None
    kept = pulumi.ResourceOptions.merge(args.opts, pulumi.ResourceOptions(protect=True))
    return pulumi.ResourceTransformationResult(args.props, kept)


def win_conflicts(args: pulumi.ResourceTransformationArgs) -> pulumi.ResourceTransformationResult | None:
    """Let what the program declares win over what other field managers, such as kubectl, have written.

    Source: https://www.pulumi.com/registry/packages/kubernetes/how-to-guides/managing-resources-with-server-side-apply/
    """
    if not args.type_.startswith("kubernetes:"):
        return None
    metadata = cast("dict[str, Any]", args.props["metadata"])
    annotations: dict[str, Any] = metadata.get("annotations") or {}
    forced = metadata | {"annotations": annotations | {"pulumi.com/patchForce": "true"}}
    return pulumi.ResourceTransformationResult({**args.props, "metadata": forced}, args.opts)
