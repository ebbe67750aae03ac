"""Volume sizes: check that existing PersistentVolumeClaims can be resized as a preview declares, and list those that are still growing.

The check asks the API server with dry-run patches. A preview does so too, but ignores that a change is forbidden, as when a storage class
does not allow volumes to grow.
"""

import json
from collections.abc import Iterable
from typing import Any

from estate.core.console import EstateError
from estate.pulumi.events import CLAIM, at
from estate.stack.model import Stack, ask
from infra.values import amount

CLUSTER = "kubernetes:postgresql.cnpg.io/v1:Cluster"
SIZE = {CLAIM: "spec.resources.requests.storage", CLUSTER: "spec.storage.size"}
MEMBER_OF = "cnpg.io/cluster"
"""Label of the claims that CloudNativePG creates. It would retry a forbidden resize forever, and do nothing else for the database."""


def refuse_sizes(stack: Stack, events: Iterable[dict[str, Any]]) -> None:
    """Refuse an update that would resize an existing claim in a way that the API server forbids.

    Args:
        stack: the stack to update.
        events: the events of the preview.

    Raises:
        EstateError: a claim cannot be resized; with the reason. Nothing was changed.
    """
    given = wanted(events)
    refused: list[str] = []
    for claim in claims(stack) if given else ():
        name, size = claim["metadata"]["name"], at(claim, SIZE[CLAIM])
        cluster = claim["metadata"].get("labels", {}).get(MEMBER_OF)
        becomes = given.get((CLAIM, name)) or given.get((CLUSTER, cluster))
        if becomes and becomes != size and (reason := refusal(stack, claim, becomes)):
            refused.append(f"  {name} {size} → {becomes}: {reason}")
    if refused:
        raise EstateError(
            f"volumes of stack {stack.name} cannot have the size that its file gives them (storage), and nothing was changed:\n"
            + "\n".join(refused)
            + "\nGive the size that they have; docs/recovery.md#volumes says how data comes to a volume of another size"
        )


def wanted(events: Iterable[dict[str, Any]]) -> dict[tuple[str, str | None], str]:
    """Return the declared sizes in a preview, by type and name, of claims and of CloudNativePG's volumes."""
    sizes: dict[tuple[str, str | None], str] = {}
    for event in events:
        metadata: dict[str, Any] = event.get("resourcePreEvent", {}).get("metadata", {})
        new: dict[str, Any] = metadata.get("new") or {}
        declared = new.get("inputs")
        if declared and metadata["type"] in SIZE:
            of: str = metadata["type"]
            sizes[of, at(declared, "metadata.name")] = at(declared, SIZE[of])
    return sizes


def refusal(stack: Stack, claim: dict[str, Any], size: str) -> str | None:
    """Return why a claim cannot have a size, as the API server reports it; None if it can."""
    name = claim["metadata"]["name"]
    if claim["status"]["phase"] == "Pending":
        return f"it has no volume yet, so it holds nothing: kubectl delete pvc/{name} --namespace={stack.namespace}, and the next make up makes it of this size"
    patch = json.dumps({"spec": {"resources": {"requests": {"storage": size}}}})
    try:
        ask(stack, "patch", "persistentvolumeclaim", name, "--dry-run=server", "--type=merge", f"--patch={patch}")
    except EstateError as error:
        return str(error).rpartition(f'"{name}" ')[2]
    return None


def growing(stack: Stack) -> list[str]:
    """Return a line for each claim that was resized, but whose volume has not yet grown."""
    bound = [(claim, at(claim, "status.capacity.storage"), at(claim, SIZE[CLAIM])) for claim in claims(stack)]
    return [
        f"the volume of {claim['metadata']['name']} has {now} of {then}: kubectl describe pvc/{claim['metadata']['name']} "
        f"--namespace={stack.namespace} says what it waits for"
        for claim, now, then in bound
        if now and amount(now) < amount(then)
    ]


def claims(stack: Stack) -> list[dict[str, Any]]:
    """Return the claims in the stack's namespace."""
    return json.loads(ask(stack, "get", "persistentvolumeclaims", "--output=json"))["items"]
