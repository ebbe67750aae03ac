"""Recovery from a Pulumi run that was killed, so that the next one can continue."""

import json
import os
import signal
from pathlib import Path
from typing import Any

from estate.core.console import EstateError, report
from estate.core.paths import STATE
from estate.pulumi.events import STACK
from estate.stack.model import NotUpError, Stack, ask, on, read, state_of
from estate.stack.objects import kubectl_kind
from estate.tools.build import BUILDS


def release_lock(name: str) -> None:
    """Remove the lock of a Pulumi run that was killed on this machine; the locks of other machines and of live processes stay.

    The caller holds the stack's lock on this machine, so a Pulumi lock of a process that no longer runs here is stale.
    """
    locks = STATE / "pulumi" / ".pulumi" / "locks" / "organization" / "estate" / name
    for file in locks.glob("*.json"):
        holder = json.loads(file.read_text() or "{}")
        if holder.get("hostname") == os.uname().nodename and not runs(holder.get("pid")):
            report(f"  released the lock of a run that was killed (process {holder.get('pid')})")
            end_orphans()
            file.unlink()


def runs(process: int) -> bool:
    """Return whether a process is alive: a killed one stays in /proc as a zombie until its parent has waited for it."""
    try:
        Path(f"/proc/{process}/exe").readlink()
    except FileNotFoundError:
        return False
    return True


def end_orphans() -> None:
    """Terminate the plugins that a killed Pulumi of our tools left behind; those with a live Pulumi continue."""
    for process in Path("/proc").iterdir():
        try:
            program = (process / "exe").readlink()
            parent = (process / "stat").read_text().rpartition(")")[2].split()[1]
            orphan = Path(f"/proc/{parent}/comm").read_text().strip() != "pulumi"
        except OSError:  # not a process, or one that has ended
            continue
        is_plugin = "plugins" in program.parts or program.name == "pulumi-language-python"
        if program.is_relative_to(BUILDS) and is_plugin and orphan:
            os.kill(int(process.name), signal.SIGTERM)


def refuse_locked(stack: Stack) -> None:
    """Refuse to continue while an update of the stack runs, on this or another machine: its new resources are not in the state yet.

    The check is a Pulumi refresh of only the stack resource itself: it takes the lock, fails at once if it is held, and changes nothing.

    Raises:
        EstateError: an update runs, or the backend refuses; with Pulumi's error output.
    """
    itself = f"urn:pulumi:{stack.name}::estate::{STACK}::estate-{stack.name}"
    done = stack.pulumi("refresh", "--yes", "--skip-preview", "--skip-pending-creates", "--target", itself, *on(stack))
    if done.returncode != 0:
        raise EstateError(
            f"stack {stack.name} cannot be changed now, and was not: {(done.stderr or done.stdout).strip()}"
        )


def clear_unfinished(stack: Stack) -> None:
    """Delete the objects that a killed run was about to create, and clear them from the state.

    Pulumi does not know whether such an object exists; if it does, creating it again fails. Each was new, so nothing
    is lost with it. A PersistentVolumeClaim may have existed before, with its data: it stays, and is adopted.
    """
    state = state_of(stack)
    pending = [p["resource"] for p in state.get("pending_operations", ()) if p["type"] == "creating"]
    if not pending:
        return
    refuse_locked(stack)
    report(f"  {len(pending)} resources of a run that was killed are unfinished: they are created again")
    finished = {resource["urn"] for resource in state.get("resources", ())}
    for resource in pending:
        if resource["urn"] not in finished and removable(resource["type"]):
            delete_object(stack, resource["type"], resource["inputs"])
    options = ["--yes", "--skip-preview", "--clear-pending-creates", "--suppress-outputs"]
    stack.pulumi_shown("refresh", *options, *on(stack))


def removable(resource_type: str) -> bool:
    """Return whether an object can be deleted and recreated without loss of data."""
    return resource_type.startswith("kubernetes:") and not resource_type.endswith(":PersistentVolumeClaim")


def delete_object(stack: Stack, resource_type: str, inputs: dict[str, Any]) -> None:
    """Delete the object of a Kubernetes resource, if it exists.

    Args:
        stack: the stack on the object's cluster.
        resource_type: the Pulumi type, kubernetes:<group/version>:<kind>.
        inputs: the inputs of the resource.
    """
    metadata = inputs["metadata"]
    within = [f"--namespace={metadata['namespace']}"] if "namespace" in metadata else []
    ask(stack, "delete", kubectl_kind(resource_type), metadata["name"], "--ignore-not-found", *within, limit_s=120)


def check_cluster(stack: Stack) -> None:
    """Refuse to work on another cluster than the stack's.

    The embedded cluster is exempt: after a reset it is a new cluster.

    Raises:
        EstateError: it is another cluster, or does not answer; or the stack cannot be read.
    """
    try:
        known: dict[str, str] = json.loads(read(stack, "output", "--json")).get("cluster", {})
    except NotUpError:
        return
    if not known or known["uid"] == cluster_identity(stack):
        return
    if stack.target.embedded and known["context"] == stack.target.context:
        return
    raise EstateError(
        f"stack {stack.name} is in another cluster than {stack.target.context}: in the one that was {known['context']} when it was last updated. "
        "Name that one's context (estate --target system --context …); where it is gone for good, "
        f"pulumi stack rm --force --preserve-config {stack.name} forgets the stack and keeps its file"
    )


def cluster_identity(stack: Stack) -> str:
    """Return an id that a cluster keeps for its lifetime.

    Raises:
        EstateError: the cluster does not answer.
    """
    return ask(stack, "get", "namespace", "kube-system", "-o", "jsonpath={.metadata.uid}")
