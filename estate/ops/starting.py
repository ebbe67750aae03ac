"""Checks of an update: it is refused if images are missing, and ends early if pods cannot start."""

import json
import re
import subprocess
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from estate.cluster.images import in_registry
from estate.cluster.layout import REGISTRY
from estate.core.console import EstateError
from estate.stack.model import Stack, ask
from infra.alerts.kubernetes import CANNOT_START

PATIENCE_S = 40.0
"""Seconds to wait for a pod or container that cannot start: the kubelet tries three times to pull an image meanwhile, and a controller a dozen times to
create a pod."""
OWNERS = ("ReplicaSet", "StatefulSet", "Job")
RECENT_S = 180.0
"""Seconds within which a controller that cannot create a pod has retried (client-go's exponential back-off)."""
PATIENCE_BEFORE_S = 120.0
"""Seconds to wait for a pod or container that could not start before the update either: the update may remove it."""
ASK_S = 10.0
NOT_THERE = re.compile("not found|manifest unknown|name unknown|name invalid", re.IGNORECASE)
"""Pattern of a registry's error for a missing image (https://github.com/opencontainers/distribution-spec/blob/main/spec.md#error-codes)."""


def refuse_missing(stack: Stack) -> None:
    """Refuse a stack with images that are known to be missing.

    Raises:
        EstateError: images are missing; nothing was changed.
    """
    ours = [] if stack.settings.build else list(stack.settings.digests.values())
    # On the embedded cluster every other image has been found already, or has a stand-in.
    named = ours if stack.target.embedded else [*ours, *stack.settings.image_references()]
    with ThreadPoolExecutor() as pool:
        found = list(pool.map(partial(is_missing, stack), named))
    if missing := [reference for reference, absent in zip(named, found, strict=True) if absent]:
        raise EstateError(
            f"stack {stack.name} names images that its registry does not have, and nothing was changed:\n"
            + "\n".join(f"  {reference}" for reference in missing)
            + f"\nName others in stacks/Pulumi.{stack.name}.yaml, or push these; estate promote writes digests that another stack runs"
        )


def is_missing(stack: Stack, reference: str) -> bool:
    """Return whether an image is known to be missing; a registry that does not answer this machine may answer the cluster's nodes.

    Args:
        stack: the stack with the image.
        reference: the reference, as registry/repository[:tag][@digest].
    """
    if stack.target.embedded and reference.startswith(f"{REGISTRY}/"):
        return not in_registry(reference)
    buildx = ["docker-buildx"] if stack.target.embedded else ["docker", "buildx"]
    command = [*buildx, "imagetools", "inspect", reference]
    environment = stack.target.environment
    try:
        asked = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=ASK_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return asked.returncode != 0 and bool(NOT_THERE.search(asked.stderr))


class Starts:
    """Pods and containers that cannot start, during one update.

    Args:
        stack: that is updated.
        job: the name of the Job that is waited for; absent: everything is.
    """

    def __init__(self, stack: Stack, job: str | None = None) -> None:
        self._stack, self._job = stack, job
        self._until: dict[tuple[str, str], float] | None = None
        """Monotonic deadline of each, by the object's uid and a name within it; None before the first check."""

    def hopeless(self) -> str | None:
        """Return the pod or container past its deadline with the cluster's reason; None if there is none, or the cluster does not answer."""
        try:
            asked = ask(self._stack, "get", "pods,replicasets,statefulsets,jobs,events", "--output=json")
        except EstateError:
            return None
        now, there = time.monotonic(), json.loads(asked)["items"]
        if self._job:
            there = [one for one in there if one["kind"] == "Event" or self._job in names_of_job(one)]
        stuck = dict(refused_pods(there, datetime.now(UTC)))
        for pod in there:
            stuck.update(waiting(pod) if pod["kind"] == "Pod" else ())
        patience_s = PATIENCE_BEFORE_S if self._until is None else PATIENCE_S
        self._until = {key: (self._until or {}).get(key, now + patience_s) for key in stuck}
        return next((reason for key, reason in stuck.items() if now >= self._until[key]), None)


def refused_pods(objects: Iterable[dict[str, Any]], now: datetime) -> Iterator[tuple[tuple[str, str], str]]:
    """Yield the controllers whose pods the cluster refuses to create (for an exhausted quota, for example): their uids, and the reason.

    Args:
        objects: the objects of a namespace, including its events.
        now: the time at which the objects were read.
    """
    since = (now - timedelta(seconds=RECENT_S)).strftime("%Y-%m-%dT%H:%M:%SZ")
    events = [one for one in objects if one["kind"] == "Event" and one.get("reason") == "FailedCreate"]
    said = {
        one["involvedObject"].get("uid"): one["message"] for one in events if (one.get("lastTimestamp") or "") > since
    }
    for one in objects:
        uid = one["metadata"].get("uid")
        if one["kind"] in OWNERS and uid in said and lacks_pods(one):
            yield (uid, "pods"), f"{one['kind']} {one['metadata']['name']}: {said[uid].splitlines()[0]}"


def names_of_job(one: dict[str, Any]) -> tuple[str, str]:
    """Return the names by which an object may be a Job, or a Job's pod."""
    metadata: dict[str, Any] = one["metadata"]
    return metadata["name"], metadata.get("labels", {}).get("batch.kubernetes.io/job-name", "")


def lacks_pods(owner: dict[str, Any]) -> bool:
    """Return whether a controller has fewer pods than it wants; of a Job, none at all and none before."""
    status: dict[str, Any] = owner["status"]
    if owner["kind"] == "Job":
        return not any(status.get(key) for key in ("active", "succeeded", "failed", "conditions"))
    return status.get("replicas", 0) < owner["spec"].get("replicas", 1)


def waiting(pod: dict[str, Any]) -> Iterator[tuple[tuple[str, str], str]]:
    """Yield the containers of a pod that cannot start: the pod's uid and the container's name, and the reason."""
    if "deletionTimestamp" in pod["metadata"]:
        return
    status = pod["status"]
    for container in (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())):
        held = container.get("state", {}).get("waiting", {})
        if re.fullmatch(CANNOT_START, held.get("reason", "")):
            said = held.get("message", "").splitlines()[:1]
            reason = ": ".join([f"pod {pod['metadata']['name']}, container {container['name']}", held["reason"], *said])
            yield (pod["metadata"]["uid"], container["name"]), reason
