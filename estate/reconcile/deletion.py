"""Detection of deletions that do not end.

Finalizers block an object's deletion until their controllers remove them
(https://kubernetes.io/docs/concepts/overview/working-with-objects/finalizers/).
"""

import time
from collections.abc import Iterable, Sequence
from typing import Any

from estate.core.console import EstateError
from estate.pulumi.events import steps_of
from estate.stack.model import Stack
from estate.stack.objects import Declared, live_objects

DELETING = ("delete", "delete-replaced", "replace")
"""Operations of Pulumi that delete an object."""
PATIENCE_S = 120.0
"""Deadline of an object's deletion in seconds: pods have up to 60 s to end, and a cloud's load balancer takes a minute or two."""


class Deletions:
    """Objects that an update, or the removal of a stack, deletes and waits for.

    Args:
        stack: the stack that has the objects.
        declared: the objects to be deleted.
    """

    def __init__(self, stack: Stack, declared: Sequence[Declared]) -> None:
        self._stack, self._declared = stack, declared
        self._since: dict[tuple[str, str], float] = {}

    def hopeless(self) -> str | None:
        """Return the object past its deadline and what blocks its deletion; None if there is none, or the cluster does not answer."""
        try:
            live = live_objects(self._stack, self._declared)
        except EstateError:
            return None
        found = {one.key: held for one in self._declared if (held := held_by(live.get(one.key, {})))}
        now = time.monotonic()
        self._since = {key: self._since.get(key, now) for key in found}
        return next(
            (
                f"{kind} {name.rpartition('/')[2]} was deleted, and is still there after {now - self._since[kind, name]:.0f} s: it {held}"
                for (kind, name), held in found.items()
                if now - self._since[kind, name] >= PATIENCE_S
            ),
            None,
        )


def deleted_by(seen: Iterable[dict[str, Any]]) -> list[Declared]:
    """Return the objects that an update deletes, or replaces, by the events of its preview."""
    steps = steps_of(seen)
    old = [step["old"] for step in steps if step["op"] in DELETING and step.get("old")]
    return [Declared(one["type"], one.get("id", ""), {}) for one in old if one["type"].startswith("kubernetes:")]


def held_by(live: dict[str, Any]) -> str | None:
    """Return what blocks the deletion of an object, as the end of a sentence; None for an object that is not being deleted.

    Args:
        live: the object in the cluster.
    """
    metadata: dict[str, Any] = live.get("metadata", {})
    if "deletionTimestamp" not in metadata:
        return None
    conditions: list[dict[str, Any]] = live.get("status", {}).get("conditions", [])
    said = [one["message"] for one in conditions if live["kind"] == "Namespace" and one["status"] == "True"]
    if said:
        return f"waits for its content: {'; '.join(said)}"
    if finalizers := metadata.get("finalizers"):
        return (
            f"is held by {', '.join(finalizers)}, until whoever set that takes it off; where that is gone for good, "
            f"kubectl edit {live['kind'].lower()}/{metadata['name']} does"
        )
    return "waits for the cluster"
