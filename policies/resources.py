"""Resources as the rules see them, with their properties as far as they are known."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

from pulumi_policy.proxy import UnknownValueError

Properties = Mapping[str, Any]

UNKNOWN = object()
"""A value that a preview cannot know. No rule reports it: the update checks again, with the value."""

SERVERS = frozenset(f"kubernetes:apps/v1:{kind}" for kind in ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet"))
"""Workloads whose pods run permanently."""
WORKLOADS = SERVERS | {"kubernetes:batch/v1:Job", "kubernetes:batch/v1:CronJob", "kubernetes:core/v1:Pod"}
POSTGRES_CLUSTER = "kubernetes:postgresql.cnpg.io/v1:Cluster"


@dataclass(frozen=True)
class Resource:
    """A resource of a stack."""

    type: str
    name: str
    inputs: Properties
    protected: bool = False
    """Protection from deletion by Pulumi."""
    urn: str = ""

    @cached_property
    def properties(self) -> dict[str, Any]:
        """Return the inputs as plain tables and lists, with UNKNOWN in them."""
        return plain(self.inputs)

    @property
    def kind(self) -> str:
        """Return its kind in Kubernetes."""
        return self.type.rpartition(":")[2]

    @property
    def is_object(self) -> bool:
        """Return whether it is an object in Kubernetes; a provider or a component is not."""
        return self.type.startswith("kubernetes:") and "metadata" in self.properties

    @property
    def namespace(self) -> Any:
        """Return its namespace."""
        return at(self.properties, "metadata", "namespace")


def plain(value: Any) -> Any:
    """Return a value without Pulumi's proxies, which raise at unknown values."""
    if isinstance(value, Mapping):
        table = cast("Mapping[str, Any]", value)
        return {key: known(table, key) for key in table}
    if isinstance(value, Sequence) and not isinstance(value, str):
        listed = cast("Sequence[Any]", value)
        return [known(listed, index) for index in range(len(listed))]
    return value


def known(container: Any, key: Any) -> Any:
    """Return the plain value of a table or list at a key."""
    try:
        return plain(container[key])
    except UnknownValueError:
        return UNKNOWN


def at(value: Any, *path: str) -> Any:
    """Return the value at a path: None if there is none, UNKNOWN if it cannot be known yet."""
    for part in path:
        if value is UNKNOWN:
            return UNKNOWN
        value = cast("Properties", value).get(part) if isinstance(value, Mapping) else None
    return value


def each(value: Any, *path: str) -> list[Any]:
    """Return the items of the list at a path, as far as they are known."""
    found = at(value, *path)
    return [item for item in cast("list[Any]", found) if item is not UNKNOWN] if isinstance(found, list) else []


def is_known(value: Any) -> bool:
    """Return whether nothing in a value is unknown."""
    if isinstance(value, dict):
        return all(is_known(item) for item in cast("Properties", value).values())
    if isinstance(value, list):
        return all(is_known(item) for item in cast("list[Any]", value))
    return value is not UNKNOWN


def template(resource: Resource) -> Any:
    """Return the template of a workload's pods, or the pod itself; None for anything else."""
    if resource.type not in WORKLOADS:
        return None
    if resource.kind == "Pod":
        return resource.properties
    within = ("jobTemplate", "spec") if resource.kind == "CronJob" else ()
    return at(resource.properties, "spec", *within, "template")


def containers(resource: Resource) -> Iterator[Any]:
    """Yield every container of a workload's pods, including init containers."""
    pod = at(template(resource), "spec")
    yield from each(pod, "initContainers")
    yield from each(pod, "containers")


def images(resource: Resource) -> Iterator[tuple[str, str]]:
    """Yield each container, or database instance, with the image that it runs."""
    named = ((f"container {at(container, 'name')}", at(container, "image")) for container in containers(resource))
    operated = (("each instance", at(resource.properties, "spec", "imageName")),)
    for who, image in operated if resource.type == POSTGRES_CLUSTER else named:
        if isinstance(image, str):
            yield who, image
