"""`estate db-password rotate`: switch the services to their other login, with a new password, without a failed request.

The services have two logins and use one. The other login gets a new password and is rolled out; old pods keep the old login until they are
gone; then the old login gets a new password, which nothing uses. Passwords are in Pulumi's state, and the stored ones are rolled out first:
the same command can be run again wherever it was interrupted.
"""

import json
from typing import Any

from estate.core.console import say, step, wait_until
from estate.ops.update import opened, update
from estate.stack.model import OURS, Stack, ask, generated, outputs, with_change
from infra.settings.secrets import DATABASE_LOGIN, Step

OTHER = {"a": "b", "b": "a"}
DRAIN_DEADLINE_S = 120


def rotate(name: str) -> None:
    """Rotate the database password that the services use.

    Raises:
        EstateError: an update failed, or pods with the old password do not end.
    """
    with opened(name) as stack:
        outputs(stack)  # a stack that is not up is refused before anything is changed
        old = active(stack)
        new = OTHER[old]
        say("Step 1 of 3: what is stored is everywhere")
        roll_out(stack)
        say(f"Step 2 of 3: the services use login {new}, with a new password")
        roll_out(stack, Step("generate", password_of(new)), Step("set", DATABASE_LOGIN, new))
        say(f"Step 3 of 3: the password of login {old} is good for nothing")
        roll_out(stack, Step("generate", password_of(old)))
        say(f"\nThe services of stack {name} use a new password for the database, and the old one is refused.")


def active(stack: Stack) -> str:
    """Return the login that the services use."""
    return generated(stack).get(DATABASE_LOGIN, "a")


def password_of(login: str) -> str:
    """Return the name of the secret with a login's password."""
    return f"databasePassword{login.upper()}"


def roll_out(stack: Stack, *steps: Step) -> None:
    """Update the stack, and wait until no pod has the previous Secrets.

    Args:
        stack: the stack to update.
        steps: the changes of secrets to make first.

    Raises:
        EstateError: the update failed, or a pod does not end.
    """
    update(with_change(stack, *steps))

    def gone() -> bool:
        found = json.loads(ask(stack, "get", "deployments,pods", OURS, "-o", "json"))["items"]
        return not outdated(found)

    with step("no pod has the old password"):
        what = (
            f"the end of pods with the old password (estate status --stack {stack.name}; then the same command again)"
        )
        wait_until(gone, what, DRAIN_DEADLINE_S, every_s=1)


def outdated(items: list[dict[str, Any]]) -> list[str]:
    """Return the names of the pods that mount other Secrets than their Deployment's pod template.

    Args:
        items: the Deployments and pods, as in the Kubernetes API.
    """
    wanted = {
        item["metadata"]["name"]: mounted(item["spec"]["template"]["spec"])
        for item in items
        if item["kind"] == "Deployment"
    }
    pods = [item for item in items if item["kind"] == "Pod" and item["status"]["phase"] in ("Pending", "Running")]
    return [
        pod["metadata"]["name"]
        for pod in pods
        if (of := pod["metadata"]["labels"].get("app.kubernetes.io/name")) in wanted
        and mounted(pod["spec"]) != wanted[of]
    ]


def mounted(pod: dict[str, Any]) -> set[str]:
    """Return the names of the Secrets that a pod mounts."""
    return {volume["secret"]["secretName"] for volume in pod["volumes"] if "secret" in volume}
