"""Jobs that run once, and have to succeed before other resources start."""

from collections.abc import Sequence
from typing import Any

import pulumi
from pulumi_kubernetes.batch.v1 import Job

from infra.namespace import EstateNamespace
from infra.pods import labels, manifest, unnamed
from infra.waiting import ROLLOUT


def run_once(
    name: str,
    pod: dict[str, Any],
    namespace: EstateNamespace,
    parent: pulumi.Resource,
    depends_on: Sequence[pulumi.Resource],
) -> Job:
    """Create a Job. Pulumi names it in the cluster, since a changed pod needs another Job.

    Args:
        name: name of the Job, and label of its pods.
        pod: spec of its pods; restartPolicy Never.
        namespace: namespace that it runs in.
        parent: parent of the Job.
        depends_on: resources that have to exist first.
    """
    # A failed Job is replaced: https://github.com/pulumi/pulumi-kubernetes/issues/449
    replaced = {"pulumi.com/replaceUnready": "true"}
    template = {"metadata": {"labels": labels(name)}, "spec": pod | {"restartPolicy": "Never"}}
    return Job(
        name,
        metadata=unnamed(name, namespace.name) | {"annotations": replaced},
        spec=manifest({"backoffLimit": 3, "template": template}),
        opts=pulumi.ResourceOptions(parent=parent, depends_on=depends_on, custom_timeouts=ROLLOUT),
    )
