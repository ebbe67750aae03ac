"""The rules: each looks at one Kubernetes resource's properties and says what is wrong with it.

A rule is a plain function, so that it can be tested without Pulumi.
"""

from collections.abc import Iterator, Mapping
from typing import Any

Properties = Mapping[str, Any]

WORKLOADS = {
    "kubernetes:apps/v1:Deployment",
    "kubernetes:apps/v1:StatefulSet",
    "kubernetes:apps/v1:DaemonSet",
    "kubernetes:batch/v1:Job",
    "kubernetes:batch/v1:CronJob",
}
CLUSTER_WIDE = {"kubernetes:core/v1:Namespace", "kubernetes:rbac.authorization.k8s.io/v1:ClusterRole"}


def pod_of(resource_type: str, properties: Properties) -> Mapping[str, Any] | None:
    """The spec of a workload's pods."""
    if resource_type not in WORKLOADS:
        return None
    spec: Any = properties.get("spec") or {}
    if resource_type.endswith(":CronJob"):
        spec = spec.get("jobTemplate", {}).get("spec", {})
    return spec.get("template", {}).get("spec") or {}


def containers(pod: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Every container of a pod, those that only initialise it included."""
    yield from pod.get("initContainers") or ()
    yield from pod.get("containers") or ()


def no_default_namespace(resource_type: str, properties: Properties) -> Iterator[str]:
    """What lands in `default` is nobody's: no quota, no network policy, no Pod Security level guards it."""
    if resource_type.startswith("kubernetes:") and resource_type not in CLUSTER_WIDE and "metadata" in properties:
        namespace = properties["metadata"].get("namespace")
        if namespace in (None, "default"):
            yield "is in the default namespace: set metadata.namespace"


def restricted_pods(resource_type: str, properties: Properties) -> Iterator[str]:
    """Pod Security Standard `restricted` (https://kubernetes.io/docs/concepts/security/pod-security-standards/)."""
    pod = pod_of(resource_type, properties)
    if pod is None:
        return
    shared: Properties = pod.get("securityContext") or {}
    for container in containers(pod):
        own: Properties = container.get("securityContext") or {}
        name = container.get("name")
        if not own.get("runAsNonRoot", shared.get("runAsNonRoot")):
            yield f"container {name} may run as root: set securityContext.runAsNonRoot: true"
        if own.get("allowPrivilegeEscalation") is not False:
            yield f"container {name} may gain privileges: set securityContext.allowPrivilegeEscalation: false"
        capabilities: Properties = own.get("capabilities") or {}
        if "ALL" not in (capabilities.get("drop") or ()):
            yield f"container {name} keeps capabilities: set securityContext.capabilities.drop: [ALL]"
        if not own.get("readOnlyRootFilesystem"):
            yield f"container {name} can write its own image: set securityContext.readOnlyRootFilesystem: true"


def bounded_resources(resource_type: str, properties: Properties) -> Iterator[str]:
    """A container without bounds takes its neighbours down with it."""
    for container in containers(pod_of(resource_type, properties) or {}):
        found: Properties = container.get("resources") or {}
        for bound in ("requests", "limits"):
            for quantity in ("cpu", "memory"):
                if quantity not in (found.get(bound) or {}):
                    yield f"container {container.get('name')} has no {bound}.{quantity}: set resources.{bound}.{quantity}"


def no_token_by_default(resource_type: str, properties: Properties) -> Iterator[str]:
    """A token that nobody uses is one to steal (CIS Kubernetes Benchmark 5.1.6)."""
    pod = pod_of(resource_type, properties)
    if pod is not None and pod.get("automountServiceAccountToken") is not False:
        yield "mounts a token of the Kubernetes API: set automountServiceAccountToken: false"


def images_by_digest(resource_type: str, properties: Properties) -> Iterator[str]:
    """A tag names something else tomorrow; a digest is what was tried (CIS Kubernetes Benchmark 5.5.1, NIST SP 800-190 4.1.5)."""
    for container in containers(pod_of(resource_type, properties) or {}):
        image = container.get("image")
        if isinstance(image, str) and "@sha256:" not in image:
            yield f"container {container.get('name')} runs {image} by a tag: name it by digest, {image}@sha256:…"


RULES = (no_default_namespace, restricted_pods, bounded_resources, no_token_by_default, images_by_digest)
