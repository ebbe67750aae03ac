"""Sizes of volumes: whether the claims that are there can become what a preview makes of them, and which of them are on their way.

The API server is asked itself, by changes that it only tries. A preview asks it too, but passes over what is forbidden: that a storage
class lets no volume grow.
"""

import json
from collections.abc import Iterable
from typing import Any

from infra.values import amount
from toolchain.console import ToolchainError
from toolchain.events import CLAIM, at
from toolchain.stack import Stack, ask

CLUSTER = "kubernetes:postgresql.cnpg.io/v1:Cluster"
SIZE = {CLAIM: "spec.resources.requests.storage", CLUSTER: "spec.storage.size"}
MEMBER_OF = "cnpg.io/cluster"
"""Label of the claims that CloudNativePG makes. It would try again and again to change them, and do nothing else for the database."""


def refuse_sizes(stack: Stack, told: Iterable[dict[str, Any]]) -> None:
    """Return where every claim that is there can have the size that a preview gives it.

    Args:
        stack: whose claims.
        told: events of the preview.

    Raises:
        ToolchainError: one cannot; with the reason. Nothing was changed.
    """
    given = wanted(told)
    refused: list[str] = []
    for claim in claims(stack) if given else ():
        name, size = claim["metadata"]["name"], at(claim, SIZE[CLAIM])
        cluster = claim["metadata"].get("labels", {}).get(MEMBER_OF)
        becomes = given.get((CLAIM, name)) or given.get((CLUSTER, cluster))
        if becomes and becomes != size and (reason := refusal(stack, claim, becomes)):
            refused.append(f"  {name} {size} → {becomes}: {reason}")
    if refused:
        raise ToolchainError(
            f"volumes of stack {stack.name} cannot have the size that its file gives them (storage), and nothing was changed:\n"
            + "\n".join(refused)
            + "\nGive the size that they have; docs/recovery.md#volumes says how data comes to a volume of another size"
        )


def wanted(told: Iterable[dict[str, Any]]) -> dict[tuple[str, str | None], str]:
    """Return the sizes that a preview gives, by type and name: of claims, and of the volumes of databases by CloudNativePG."""
    sizes: dict[tuple[str, str | None], str] = {}
    for event in told:
        metadata: dict[str, Any] = event.get("resourcePreEvent", {}).get("metadata", {})
        new: dict[str, Any] = metadata.get("new") or {}
        declared = new.get("inputs")
        if declared and metadata["type"] in SIZE:
            of: str = metadata["type"]
            sizes[of, at(declared, "metadata.name")] = at(declared, SIZE[of])
    return sizes


def refusal(stack: Stack, claim: dict[str, Any], size: str) -> str | None:
    """Return why a claim cannot have a size, in the API server's words; None where it can."""
    name = claim["metadata"]["name"]
    if claim["status"]["phase"] == "Pending":
        return f"it has no volume yet, so it holds nothing: kubectl delete pvc/{name} --namespace={stack.namespace}, and the next make up makes it of this size"
    patch = json.dumps({"spec": {"resources": {"requests": {"storage": size}}}})
    try:
        ask(stack, "patch", "persistentvolumeclaim", name, "--dry-run=server", "--type=merge", f"--patch={patch}")
    except ToolchainError as error:
        return str(error).rpartition(f'"{name}" ')[2]
    return None


def growing(stack: Stack) -> list[str]:
    """Return the claims that Kubernetes has let grow, but whose volumes have not yet grown, a line each."""
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
