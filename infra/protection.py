"""What holds data, and that it stays."""

import pulumi

STATE = {
    "kubernetes:core/v1:Namespace",  # with it goes everything that is in it
    "kubernetes:core/v1:PersistentVolumeClaim",
    "kubernetes:apps/v1:StatefulSet",
    "kubernetes:postgresql.cnpg.io/v1:Cluster",
}


def protect_state(args: pulumi.ResourceTransformationArgs) -> pulumi.ResourceTransformationResult | None:
    """A transformation by which Pulumi refuses to delete or replace what holds data."""
    if args.type_ not in STATE:
        return None
    kept = pulumi.ResourceOptions.merge(args.opts, pulumi.ResourceOptions(protect=True))
    return pulumi.ResourceTransformationResult(args.props, kept)
