"""What runs once before others start: a Job that has to end well."""

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
    """Create a Job; its name in the cluster is Pulumi's, since another pod is another Job.

    Args:
        name: of the Job, and label of its pods.
        pod: spec of its pods; restartPolicy Never.
        namespace: where it runs.
        parent: of the Job.
        depends_on: what has to be there before.
    """
    # A Job that failed is made anew: https://github.com/pulumi/pulumi-kubernetes/issues/449
    anew = {"pulumi.com/replaceUnready": "true"}
    template = {"metadata": {"labels": labels(name)}, "spec": pod | {"restartPolicy": "Never"}}
    return Job(
        name,
        metadata=unnamed(name, namespace.name) | {"annotations": anew},
        spec=manifest({"backoffLimit": 3, "template": template}),
        opts=pulumi.ResourceOptions(parent=parent, depends_on=depends_on, custom_timeouts=ROLLOUT),
    )
