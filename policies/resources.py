"""What the rules look at: a resource, and what its properties say as far as they are known."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

from pulumi_policy.proxy import UnknownValueError

Properties = Mapping[str, Any]

UNKNOWN = object()
"""A value that a preview cannot know. No rule finds fault with it: the update looks again, with the value."""

SERVERS = frozenset(f"kubernetes:apps/v1:{kind}" for kind in ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet"))
"""Workloads whose pods are to run on and on."""
WORKLOADS = SERVERS | {"kubernetes:batch/v1:Job", "kubernetes:batch/v1:CronJob", "kubernetes:core/v1:Pod"}
POSTGRES_CLUSTER = "kubernetes:postgresql.cnpg.io/v1:Cluster"


@dataclass(frozen=True)
class Resource:
    """A resource of a stack."""

    type: str
    name: str
    inputs: Properties
    protected: bool = False
    """Whether Pulumi refuses to delete it."""
    urn: str = ""

    @cached_property
    def properties(self) -> dict[str, Any]:
        """The inputs as plain tables and lists, with UNKNOWN in them."""
        return plain(self.inputs)

    @property
    def kind(self) -> str:
        """As Kubernetes calls it."""
        return self.type.rpartition(":")[2]

    @property
    def is_object(self) -> bool:
        """Whether it is something in Kubernetes; a provider or a component is not."""
        return self.type.startswith("kubernetes:") and "metadata" in self.properties

    @property
    def namespace(self) -> Any:
        """Where it is."""
        return at(self.properties, "metadata", "namespace")


def plain(value: Any) -> Any:
    """A value without Pulumi's proxies, which raise at what is unknown."""
    if isinstance(value, Mapping):
        table = cast("Mapping[str, Any]", value)
        return {key: known(table, key) for key in table}
    if isinstance(value, Sequence) and not isinstance(value, str):
        listed = cast("Sequence[Any]", value)
        return [known(listed, index) for index in range(len(listed))]
    return value


def known(container: Any, key: Any) -> Any:
    """What a table or list has at a key, plain."""
    try:
        return plain(container[key])
    except UnknownValueError:
        return UNKNOWN


def at(value: Any, *path: str) -> Any:
    """What is at a path: None where nothing is, UNKNOWN where that cannot be known yet."""
    for part in path:
        if value is UNKNOWN:
            return UNKNOWN
        value = cast("Properties", value).get(part) if isinstance(value, Mapping) else None
    return value


def each(value: Any, *path: str) -> list[Any]:
    """What the list at a path holds, as far as it is known."""
    found = at(value, *path)
    return [item for item in cast("list[Any]", found) if item is not UNKNOWN] if isinstance(found, list) else []


def is_known(value: Any) -> bool:
    """Whether nothing in a value is unknown."""
    if isinstance(value, dict):
        return all(is_known(item) for item in cast("Properties", value).values())
    if isinstance(value, list):
        return all(is_known(item) for item in cast("list[Any]", value))
    return value is not UNKNOWN


def template(resource: Resource) -> Any:
    """The template of a workload's pods, or the pod itself; None for anything else."""
    if resource.type not in WORKLOADS:
        return None
    if resource.kind == "Pod":
        return resource.properties
    within = ("jobTemplate", "spec") if resource.kind == "CronJob" else ()
    return at(resource.properties, "spec", *within, "template")


def containers(resource: Resource) -> Iterator[Any]:
    """Every container of a workload's pods, those that only prepare them included."""
    pod = at(template(resource), "spec")
    yield from each(pod, "initContainers")
    yield from each(pod, "containers")


def images(resource: Resource) -> Iterator[tuple[str, str]]:
    """Who runs which image."""
    named = ((f"container {at(container, 'name')}", at(container, "image")) for container in containers(resource))
    operated = (("each instance", at(resource.properties, "spec", "imageName")),)
    for who, image in operated if resource.type == POSTGRES_CLUSTER else named:
        if isinstance(image, str):
            yield who, image
