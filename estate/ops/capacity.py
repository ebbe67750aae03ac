"""Capacity check: the nodes of a cluster must have room for the pods of a previewed stack."""

import json
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from typing import Any

from estate.core.console import EstateError, report
from estate.ops.volumes import CLUSTER
from estate.stack.model import Stack, ask
from infra.values import amount

Room = Mapping[str, Fraction]
"""CPU in cores and memory in bytes, by Kubernetes' resource names."""
ASKED = ("cpu", "memory")
WORKLOADS = ("apps/v1:Deployment", "apps/v1:StatefulSet", "apps/v1:DaemonSet", "batch/v1:Job", "batch/v1:CronJob")
ENDED = ("Succeeded", "Failed")
MIB = 2**20


def refuse_too_large(stack: Stack, events: Iterable[dict[str, Any]]) -> None:
    """Refuse an update with a pod that fits on no node, or with more pods than fit on the one node of the embedded cluster.

    On other clusters a pod that fits on no node is only reported: an autoscaler may add nodes, larger ones too.

    Args:
        stack: the stack to update.
        events: the events of the preview.

    Raises:
        EstateError: the embedded cluster has too little room; with what is missing. Nothing was changed.
    """
    asked = list(pods(events))
    nodes = [
        room(node["status"]["allocatable"]) for node in json.loads(ask(stack, "get", "nodes", "--output=json"))["items"]
    ]
    homeless = [
        f"  {name} asks for {written(of)}" for name, _, of in asked if not any(fits(of, node) for node in nodes)
    ]
    largest = {key: max((node[key] for node in nodes), default=Fraction()) for key in ASKED}
    if homeless:
        said = f"no node of the cluster can take these pods; most has {written(largest)}:\n" + "\n".join(homeless)
        if stack.target.embedded:
            raise EstateError(f"{said}\nNothing was changed: let them request less (resources)")
        report(f"  {said}\n  They wait until an autoscaler brings a larger node")
    elif stack.target.embedded:
        refuse_crowd(stack, total(nodes), total([scaled(of, number) for _, number, of in asked]))


def refuse_crowd(stack: Stack, there: Room, asked: Room) -> None:
    """Refuse an update of a stack whose pods do not fit on the embedded cluster together with the pods of others.

    Args:
        stack: the stack to update.
        there: the allocatable resources of the nodes.
        asked: the requests of the stack's pods.

    Raises:
        EstateError: they do not fit; nothing was changed.
    """
    running = json.loads(ask(stack, "get", "pods", "--all-namespaces", "--output=json"))["items"]
    others = [pod for pod in running if pod["metadata"]["namespace"] != stack.namespace and stays(pod)]
    taken = total([requests(pod["spec"]) for pod in others])
    left = {key: there[key] - taken[key] for key in ASKED}
    if not fits(asked, left):
        raise EstateError(
            f"stack {stack.name} asks for {written(asked)}, and the embedded cluster has {written(left)} left, of {written(there)}: "
            "nothing was changed. Let its pods request less (resources, replicas), or take another stack down"
        )


def stays(pod: Mapping[str, Any]) -> bool:
    """Return whether a pod is scheduled to a node, and neither finished nor being deleted."""
    return (
        "nodeName" in pod["spec"] and pod["status"]["phase"] not in ENDED and "deletionTimestamp" not in pod["metadata"]
    )


def pods(events: Iterable[dict[str, Any]]) -> Iterator[tuple[str, int, Room]]:
    """Yield the pods of a previewed stack: the name of their workload, their minimum number, and the requests of each."""
    for event in events:
        metadata: dict[str, Any] = event.get("resourcePreEvent", {}).get("metadata", {})
        new: dict[str, Any] = metadata.get("new") or {}
        declared: dict[str, Any] = new.get("inputs") or {}
        kind = metadata.get("type", "").removeprefix("kubernetes:")
        if not declared or metadata["op"] in ("delete", "delete-replaced"):
            continue
        name = f"{kind.rpartition(':')[2]} {declared.get('metadata', {}).get('name', '')}"
        spec: dict[str, Any] = declared.get("spec", {})
        if metadata["type"] == CLUSTER:
            yield name, int(spec["instances"]), room(spec.get("resources", {}).get("requests", {}))
        elif kind in WORKLOADS:
            template = spec["jobTemplate"]["spec"]["template"] if "jobTemplate" in spec else spec["template"]
            lasting = kind in WORKLOADS[:3]
            yield name, int(spec.get("replicas", 1)) if lasting else 0, requests(template["spec"])


def requests(pod: Mapping[str, Any]) -> Room:
    """Return the requests of a pod: the sum of its containers, or its largest init container if that is more.

    Sidecars are counted with the containers (https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/).
    """
    first: list[dict[str, Any]] = pod.get("initContainers") or []
    lasting: list[dict[str, Any]] = [
        *pod["containers"],
        *(one for one in first if one.get("restartPolicy") == "Always"),
    ]
    together, each = total(map(requested, lasting)), list(map(requested, first))
    return {key: max([together[key], *(one[key] for one in each)]) for key in ASKED}


def requested(container: Mapping[str, Any]) -> Room:
    """Return the requests of one container."""
    resources: dict[str, Any] = container.get("resources") or {}
    return room(resources.get("requests") or {})


def room(given: Mapping[str, str]) -> Room:
    """Return Kubernetes quantities as numbers; a missing one is zero."""
    return {key: amount(str(given.get(key, "0"))) for key in ASKED}


def total(rooms: Iterable[Room]) -> Room:
    """Return the sum of amounts of resources."""
    each = list(rooms)
    return {key: sum((one[key] for one in each), Fraction()) for key in ASKED}


def scaled(one: Room, number: int) -> Room:
    """Return an amount of resources multiplied by a number."""
    return {key: one[key] * number for key in ASKED}


def fits(asked: Room, there: Room) -> bool:
    """Return whether the requested resources fit."""
    return all(asked[key] <= there[key] for key in ASKED)


def written(of: Room) -> str:
    """Return an amount of resources in human-readable form."""
    return f"{float(of['cpu']):.4g} CPU and {float(of['memory'] / MIB):.0f} Mi"
