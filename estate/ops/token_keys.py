"""`estate keys rotate` and `estate keys retire`: replace the signing key of tokens, without ever refusing a valid token.

A pod gets the new content of a Secret when its kubelet syncs it, each at a different time. So every pod accepts the new key before the first
pod signs with it, and the old one is accepted until it is retired. The keys are in Pulumi's state, where each update changes them atomically,
and the announced key stays there until the end: the same command continues from wherever it was interrupted.
"""

import json
from dataclasses import dataclass
from typing import Any

from estate.core.console import EstateError, say, step, wait_until
from estate.ops.update import opened, update
from estate.stack.model import OURS, Stack, ask, generated, outputs, with_change
from infra import key_sets
from infra.settings.secrets import TOKEN_KEYS, Step

CURRENT, NEXT, PREVIOUS = TOKEN_KEYS
PODS_DEADLINE_S = 300
"""Deadline until every pod has the keys, in seconds: a kubelet syncs Secrets every 60 to 90 s."""
READ_KIDS = f"import json; print(*(key['kid'] for key in json.load(open('{key_sets.FOLDER}/{key_sets.FILE}'))['keys']))"


@dataclass(frozen=True)
class Keys:
    """Token keys in a stack's state."""

    current: str
    """Key that signs tokens now."""
    next: str | None = None
    """Announced key: accepted, and the next to sign."""
    previous: str | None = None
    """Previous signing key: still accepted until it is retired."""

    @property
    def kids(self) -> list[str]:
        """Return the key ids, in the order of the pods' key file."""
        stored = (self.current, self.next, self.previous)
        return [key_sets.kid(key) for key in dict.fromkeys(stored) if key]

    @property
    def taken_over(self) -> bool:
        """Return whether the announced key is the signing key already, and only has to reach the pods."""
        return self.next == self.current

    @property
    def unretired(self) -> bool:
        """Return whether a completed rotation left a previous key that is still accepted."""
        return self.previous not in (None, self.current) and not self.taken_over


def rotate(name: str) -> None:
    """Switch the signing of tokens to a new key.

    Raises:
        EstateError: the previous key is not retired yet, or a pod does not get the keys.
    """
    with opened(name) as stack:
        outputs(stack)  # a stack that is not up is refused before anything is changed
        keys = stored(stack)
        if keys.unretired:
            raise EstateError(
                f"stack {name} still accepts tokens by the key before this one, and there is room for one such key:"
                f" estate keys retire --stack {name} first, a day after the last rotation at the earliest"
            )
        if not keys.taken_over:
            say("Step 1 of 2: the new key is accepted everywhere")
            roll_out(stack, *([Step("generate", NEXT)] if keys.next is None else []))
        say("Step 2 of 2: the new key signs")
        roll_out(stack, *([] if keys.taken_over else [Step("copy", PREVIOUS, CURRENT), Step("copy", CURRENT, NEXT)]))
        update(with_change(stack, Step("remove", NEXT)))
        say(f"\nTokens of stack {name} are signed by a new key now.")
        say("Those by the old one are good until it is retired. In a day, when the last of them has expired:")
        say(f"  estate keys retire --stack {name}")


def retire(name: str) -> None:
    """Stop accepting tokens that were signed with the previous key.

    Raises:
        EstateError: a rotation is in progress, or a pod does not get the keys.
    """
    with opened(name) as stack:
        outputs(stack)
        keys = stored(stack)
        if keys.next is not None:
            raise EstateError(f"a rotation of stack {name} is under way: estate keys rotate --stack {name} ends it")
        roll_out(stack, *([] if keys.previous is None else [Step("remove", PREVIOUS)]))
        say(f"\nTokens of stack {name} are good by the key that signs them now, and by no other.")


def stored(stack: Stack) -> Keys:
    """Return the keys in a stack's state."""
    values = generated(stack)
    return Keys(values[CURRENT], values.get(NEXT), values.get(PREVIOUS))


def roll_out(stack: Stack, *steps: Step) -> None:
    """Update the stack, and wait until every pod has the stored keys.

    A service checks its file every two seconds, so it has loaded them before another update could bring others.

    Args:
        stack: the stack to update.
        steps: the changes of secrets to make first.

    Raises:
        EstateError: the update failed, or a pod does not get the keys.
    """
    update(with_change(stack, *steps))
    wanted = stored(stack).kids
    shown = ""

    def everywhere() -> bool:
        nonlocal shown
        pods = mounting(json.loads(ask(stack, "get", "pods", OURS, "-o", "json"))["items"])
        if not pods:
            raise EstateError(f"no pod has the Secret {key_sets.NAME}: estate up --stack {stack.name}")
        having = sum(kids_in(stack, pod) == wanted for pod in pods)
        if (now := f"  {having} of {len(pods)} pods have the keys") != shown:
            say(now)
        shown = now
        return having == len(pods)

    with step("every pod has the keys"):
        what = f"that every pod has the keys (estate status --stack {stack.name} says what is not ready; then the same command again)"
        wait_until(everywhere, what, PODS_DEADLINE_S, every_s=3)


def mounting(pods: list[dict[str, Any]]) -> list[str]:
    """Return the names of the pods that mount the keys and are neither finished nor being deleted."""
    return [
        pod["metadata"]["name"]
        for pod in pods
        if any(volume.get("secret", {}).get("secretName") == key_sets.NAME for volume in pod["spec"]["volumes"])
        and pod["status"]["phase"] in ("Pending", "Running")
        and "deletionTimestamp" not in pod["metadata"]
    ]


def kids_in(stack: Stack, pod: str) -> list[str]:
    """Return the ids of the keys in a pod's file; an empty list for a pod in which the command fails."""
    try:
        return ask(stack, "exec", pod, "--", "/app/.venv/bin/python", "-c", READ_KIDS).split()
    except EstateError:
        return []
