"""Diagnosis of pods that are not ready, from their status and logs."""

import subprocess
from collections.abc import Iterator
from typing import Any

from estate.stack.model import Stack

TAIL = 5
"""Number of lines to show from a pod's log."""
PODS = 5
"""Number of pods to show; more would say the same."""


def explain(stack: Stack, pods: list[dict[str, Any]]) -> list[str]:
    """Return lines on the pods that are not ready: the reasons from their status, and the end of their logs."""
    lines: list[str] = []
    for pod in [pod for pod in pods if is_unready(pod)][:PODS]:
        name = pod["metadata"]["name"]
        lines += [f"pod {name}: {reason}" for reason in reasons(pod)]
        lines += [f"    {line}" for line in last_words(stack, pod)]
    return lines


def is_unready(pod: dict[str, Any]) -> bool:
    """Return whether a pod should be ready and is not, or has failed."""
    if "deletionTimestamp" in pod["metadata"] or pod["status"]["phase"] == "Succeeded":
        return False
    conditions = {condition["type"]: condition["status"] for condition in pod["status"].get("conditions", ())}
    return conditions.get("Ready") != "True"


def reasons(pod: dict[str, Any]) -> Iterator[str]:
    """Yield the reasons in a pod's status: why it is not scheduled, not started, has ended or is not ready."""
    for condition in pod["status"].get("conditions", ()):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            yield condition.get("message", "not scheduled")
    containers = [*pod["status"].get("initContainerStatuses", ()), *pod["status"].get("containerStatuses", ())]
    for container in containers:
        state, ended = container.get("state", {}), container.get("lastState", {}).get("terminated")
        waiting, terminated = state.get("waiting", {}), state.get("terminated") or ended
        if terminated and terminated.get("exitCode"):
            yield f"{container['name']} ended with exit code {terminated['exitCode']} ({terminated.get('reason', '')})"
        elif waiting.get("message"):
            yield f"{container['name']}: {waiting['reason']}: {waiting['message']}"
        elif "running" in state and not container.get("ready"):
            yield f"{container['name']} runs, and is not ready"


def last_words(stack: Stack, pod: dict[str, Any]) -> list[str]:
    """Return the end of the log of a pod's first container that is not ready; that of its previous run if it waits for a restart."""
    for container in pod["status"].get("containerStatuses", ()):
        if not container.get("ready"):
            previous = ["--previous"] if "waiting" in container.get("state", {}) and container["restartCount"] else []
            words = ["logs", pod["metadata"]["name"], f"--container={container['name']}", f"--tail={TAIL}", *previous]
            command = stack.kubectl("--request-timeout=10s", *words)
            done = subprocess.run(command, env=stack.target.environment, capture_output=True, text=True, check=False)
            return done.stdout.splitlines() if done.returncode == 0 else []
    return []
