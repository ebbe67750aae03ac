"""`make rotate-keys` and `make retire-key`: another key for tokens, without a moment in which a good token is refused.

A pod gets another content of a Secret when its kubelet comes by, each at its own time. So the new key is accepted everywhere before the first
pod signs with it, and the old one goes on being accepted until it is retired. The keys are in Pulumi's state, where each update changes them at once,
and the announced key stays there until the end: the same command goes on from wherever it was interrupted.
"""

import json
import sys
from dataclasses import dataclass
from typing import Any

from infra import token_keys
from infra.generated_secrets import Step
from infra.stack_secrets import TOKEN_KEYS
from toolchain.console import ToolchainError, run_command, say, step, timed, wait_until
from toolchain.estate import opened, update
from toolchain.stack import Stack, ask, generated, outputs, with_change

CURRENT, NEXT, PREVIOUS = TOKEN_KEYS
PODS_DEADLINE_S = 300
"""A kubelet comes by every 60 to 90 s."""
READ_KIDS = (
    f"import json; print(*(key['kid'] for key in json.load(open('{token_keys.FOLDER}/{token_keys.FILE}'))['keys']))"
)


@dataclass(frozen=True)
class Keys:
    """The keys that a stack has stored."""

    current: str
    """Signs."""
    next: str | None = None
    """Will sign."""
    previous: str | None = None
    """Has signed."""

    @property
    def kids(self) -> list[str]:
        """Their names, as pods that have them list them."""
        stored = (self.current, self.next, self.previous)
        return [token_keys.kid(key) for key in dict.fromkeys(stored) if key]

    @property
    def taken_over(self) -> bool:
        """Whether the key that was announced is the one that signs, and only has to reach the pods."""
        return self.next == self.current

    @property
    def unretired(self) -> bool:
        """Whether a rotation that has ended left a key that is still accepted."""
        return self.previous not in (None, self.current) and not self.taken_over


def rotate(name: str) -> None:
    """Sign tokens by a new key.

    Raises:
        ToolchainError: the key before is not retired yet, or some pod does not get the keys.
    """
    with opened(name) as stack:
        outputs(stack)  # a stack that is not up is refused before anything is changed
        keys = stored(stack)
        if keys.unretired:
            raise ToolchainError(
                f"stack {name} still accepts tokens by the key before this one, and there is room for one such key:"
                f" make retire-key STACK={name} first, a day after the last rotation at the earliest"
            )
        if not keys.taken_over:
            say("Step 1 of 2: the new key is accepted everywhere")
            roll_out(stack, *([Step("generate", NEXT)] if keys.next is None else []))
        say("Step 2 of 2: the new key signs")
        roll_out(stack, *([] if keys.taken_over else [Step("copy", PREVIOUS, CURRENT), Step("copy", CURRENT, NEXT)]))
        update(with_change(stack, Step("remove", NEXT)))
        say(f"\nTokens of stack {name} are signed by a new key now.")
        say("Those by the old one are good until it is retired. In a day, when the last of them has expired:")
        say(f"  make retire-key STACK={name}")


def retire(name: str) -> None:
    """Accept tokens by the old key no more.

    Raises:
        ToolchainError: a rotation is under way, or some pod does not get the keys.
    """
    with opened(name) as stack:
        outputs(stack)
        keys = stored(stack)
        if keys.next is not None:
            raise ToolchainError(f"a rotation of stack {name} is under way: make rotate-keys STACK={name} ends it")
        roll_out(stack, *([] if keys.previous is None else [Step("remove", PREVIOUS)]))
        say(f"\nTokens of stack {name} are good by the key that signs them now, and by no other.")


def stored(stack: Stack) -> Keys:
    """Return the keys that a stack's state has."""
    values = generated(stack)
    return Keys(values[CURRENT], values.get(NEXT), values.get(PREVIOUS))


def roll_out(stack: Stack, *steps: Step) -> None:
    """Update the stack, and wait until every pod has the keys that are stored.

    A service looks at its file every two seconds: it has them before another update could bring others.

    Args:
        stack: whose pods they are.
        steps: what to change first.

    Raises:
        ToolchainError: some pod does not get them.
    """
    update(with_change(stack, *steps))
    wanted = stored(stack).kids
    shown = ""

    def everywhere() -> bool:
        nonlocal shown
        pods = mounting(json.loads(ask(stack, "get", "pods", "-o", "json"))["items"])
        if not pods:
            raise ToolchainError(f"no pod has the Secret {token_keys.NAME}: make up STACK={stack.name}")
        having = sum(kids_in(stack, pod) == wanted for pod in pods)
        if (now := f"  {having} of {len(pods)} pods have the keys") != shown:
            say(now)
        shown = now
        return having == len(pods)

    with step("every pod has the keys"):
        what = f"that every pod has the keys (make status STACK={stack.name} says what is not ready; then the same command again)"
        wait_until(everywhere, what, PODS_DEADLINE_S, every_s=3)


def mounting(pods: list[dict[str, Any]]) -> list[str]:
    """Names of those pods that have the keys mounted and are neither done nor about to go."""
    return [
        pod["metadata"]["name"]
        for pod in pods
        if any(volume.get("secret", {}).get("secretName") == token_keys.NAME for volume in pod["spec"]["volumes"])
        and pod["status"]["phase"] in ("Pending", "Running")
        and "deletionTimestamp" not in pod["metadata"]
    ]


def kids_in(stack: Stack, pod: str) -> list[str]:
    """Names of the keys in a pod's file; none of a pod that cannot be asked now."""
    try:
        return ask(stack, "exec", pod, "--", "/app/.venv/bin/python", "-c", READ_KIDS).split()
    except ToolchainError:
        return []


COMMANDS = {"rotate": rotate, "retire": retire}


def main() -> None:
    if len(sys.argv) != 3 or sys.argv[1] not in COMMANDS:
        raise ToolchainError(f"usage: python -m toolchain.rotation {'|'.join(COMMANDS)} STACK")
    with timed():
        COMMANDS[sys.argv[1]](sys.argv[2])


if __name__ == "__main__":
    run_command(main)
