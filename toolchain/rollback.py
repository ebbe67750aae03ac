"""`make rollback`: our services as they were before the last release, by the digests that the cluster remembers."""

import json
import sys
from typing import Any

from infra.services import NAMES
from toolchain.console import ToolchainError, run_command, say
from toolchain.estate import opened, show_urls, update
from toolchain.stack import Stack, ask, with_images

REVISION = "deployment.kubernetes.io/revision"


def previous_images(stack: Stack) -> dict[str, str]:
    """Image of each of our services in its release before the last one; of those that have none, the present one.

    Raises:
        ToolchainError: nothing of ours runs, or there is no release before.
    """
    found = json.loads(ask(stack, "get", "replicasets", "-o", "json"))["items"]
    histories = {name: history for name in NAMES if (history := images(found, name))}
    if not histories:
        raise ToolchainError(f"nothing of stack {stack.name} runs: make up STACK={stack.name}")
    if all(len(history) == 1 for history in histories.values()):
        raise ToolchainError(f"stack {stack.name} has no release before this one: the cluster remembers no other image")
    return {name: history[min(1, len(history) - 1)] for name, history in histories.items()}


def images(replica_sets: list[dict[str, Any]], service: str) -> list[str]:
    """The images that a service has had, each once, newest first."""
    owned = [
        one
        for one in replica_sets
        if any(owner["name"] == service for owner in one["metadata"].get("ownerReferences", ()))
    ]
    newest_first = sorted(owned, key=lambda one: int(one["metadata"]["annotations"][REVISION]), reverse=True)
    return list(dict.fromkeys(one["spec"]["template"]["spec"]["containers"][0]["image"] for one in newest_first))


def main() -> None:
    if len(sys.argv) != 2:
        raise ToolchainError("usage: python -m toolchain.rollback STACK")
    with opened(sys.argv[1]) as stack:
        before = previous_images(stack)
        for name, image in sorted(before.items()):
            say(f"  {name} goes back to {image}")
        back = with_images(stack, before)
        update(back)
        show_urls(back)
    if stack.settings.build:
        say("The next make up builds from the working tree again: take the change back there too.")
    else:
        say(f"stacks/Pulumi.{stack.name}.yaml still names the other digests: put these there before the next make up.")


if __name__ == "__main__":
    run_command(main)
