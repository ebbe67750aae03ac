"""What a run of Pulumi that was killed has left behind, and how the next one goes on from there."""

import json
import os
import signal
from pathlib import Path
from typing import Any

from toolchain.build import BUILDS
from toolchain.console import ToolchainError, report
from toolchain.paths import STATE
from toolchain.stack import NotUpError, Stack, ask, on, read, state_of


def release_lock(name: str) -> None:
    """Remove the lock of a Pulumi run that was killed on this machine; another's stays.

    Our own lock is held here, so a lock by a process of this machine that is gone is nobody's.
    """
    locks = STATE / "pulumi" / ".pulumi" / "locks" / "organization" / "estate" / name
    for file in locks.glob("*.json"):
        holder = json.loads(file.read_text() or "{}")
        if holder.get("hostname") == os.uname().nodename and not runs(holder.get("pid")):
            report(f"  released the lock of a run that was killed (process {holder.get('pid')})")
            end_orphans()
            file.unlink()


def runs(process: int) -> bool:
    """Whether a process still runs a program: one that was killed stays in /proc until its parent has asked for it."""
    try:
        Path(f"/proc/{process}/exe").readlink()
    except FileNotFoundError:
        return False
    return True


def end_orphans() -> None:
    """End the plugins that a killed Pulumi of our tools left behind; those that still have theirs go on."""
    for process in Path("/proc").iterdir():
        try:
            program = (process / "exe").readlink()
            parent = (process / "stat").read_text().rpartition(")")[2].split()[1]
            orphan = Path(f"/proc/{parent}/comm").read_text().strip() != "pulumi"
        except OSError:  # no process, or no longer one
            continue
        is_plugin = "plugins" in program.parts or program.name == "pulumi-language-python"
        if program.is_relative_to(BUILDS) and is_plugin and orphan:
            os.kill(int(process.name), signal.SIGTERM)


def clear_unfinished(stack: Stack) -> None:
    """Delete what a killed run was about to create, and clear it from the state.

    Pulumi does not know whether such an object exists; if it does, creating it again fails. Each was new, so nothing
    is lost with it. A claim may have been there before, with its data: it stays, and is taken over.
    """
    state = state_of(stack)
    pending = [p["resource"] for p in state.get("pending_operations", ()) if p["type"] == "creating"]
    if not pending:
        return
    report(f"  {len(pending)} resources of a run that was killed are unfinished: they are created again")
    finished = {resource["urn"] for resource in state.get("resources", ())}
    for resource in pending:
        if resource["urn"] not in finished and removable(resource["type"]):
            delete_object(stack, resource["type"], resource["inputs"])
    options = ["--yes", "--skip-preview", "--clear-pending-creates", "--suppress-outputs"]
    stack.pulumi_shown("refresh", *options, *on(stack))


def removable(resource_type: str) -> bool:
    """Return whether an object can be deleted to be made again, without a loss."""
    return resource_type.startswith("kubernetes:") and not resource_type.endswith(":PersistentVolumeClaim")


def delete_object(stack: Stack, resource_type: str, inputs: dict[str, Any]) -> None:
    """Delete the object of a Kubernetes resource, if it is there.

    Args:
        stack: on whose cluster.
        resource_type: kubernetes:<group/version>:<kind>, as Pulumi calls it.
        inputs: of the resource.
    """
    metadata = inputs["metadata"]
    within = [f"--namespace={metadata['namespace']}"] if "namespace" in metadata else []
    ask(stack, "delete", kubectl_kind(resource_type), metadata["name"], "--ignore-not-found", *within, limit_s=120)


def kubectl_kind(resource_type: str) -> str:
    """Return what kubectl calls a resource's kind: with its version and group, for names of kinds are not unique."""
    _, group_version, kind = resource_type.split(":")
    group, _, version = group_version.rpartition("/")
    return f"{kind}.{version}.{group.removeprefix('core')}".lower()


def check_cluster(stack: Stack) -> None:
    """Refuse to work on another cluster than the one that the stack is in.

    The embedded cluster may have been reset, and be another one since.

    Raises:
        ToolchainError: it is another one, or does not answer; or the stack cannot be read.
    """
    try:
        known: dict[str, str] = json.loads(read(stack, "output", "--json")).get("cluster", {})
    except NotUpError:
        return
    if not known or known["uid"] == cluster_identity(stack):
        return
    if stack.target.embedded and known["context"] == stack.target.context:
        return
    raise ToolchainError(
        f"stack {stack.name} is in another cluster than {stack.target.context}: in the one that was {known['context']} when it was last updated. "
        "Name that one's context (TOOLS=system KUBE_CONTEXT=…); where it is gone for good, "
        f"pulumi stack rm --force --preserve-config {stack.name} forgets the stack and keeps its file"
    )


def cluster_identity(stack: Stack) -> str:
    """An id that a cluster has for life.

    Raises:
        ToolchainError: it does not answer.
    """
    return ask(stack, "get", "namespace", "kube-system", "-o", "jsonpath={.metadata.uid}")
