"""`make drift`: what of a stack is no longer as the last `make up` left it.

Exit code 0: nothing; 3: something, which is named; 1: that could not be determined.
"""

import sys
from collections.abc import Iterable
from typing import Any

from toolchain.additions import additions
from toolchain.console import DEVIATION, ToolchainError, run_command, say
from toolchain.estate import opened
from toolchain.events import Change, change, events_of
from toolchain.markdown import listed, marked, write
from toolchain.paths import PROJECT


def drift_of(told: Iterable[dict[str, Any]]) -> list[str]:
    """What a refresh found changed or gone in the cluster, a line each; of an image it would tell how the working tree has changed."""
    found = [event["resOutputsEvent"]["metadata"] for event in told if "resOutputsEvent" in event]
    changed = [metadata for metadata in found if metadata["op"] in ("update", "delete")]
    return [line(change(metadata)) for metadata in changed if metadata["type"].startswith("kubernetes:")]


def line(found: Change) -> str:
    """What became of a resource."""
    return f"{found.name} is gone" if found.op == "delete" else f"{found.name}: {', '.join(found.properties)}"


def markdown(name: str, drift: list[str]) -> str:
    """The comment, or the issue's text."""
    next_step = "What shall stay belongs into the program; the next `make up` puts back the rest."
    return marked(f"drift of {name}", listed(f"Stack {name} is not as the last make up left it", drift), next_step)


def main() -> None:
    if len(sys.argv) != 2:
        raise ToolchainError("usage: python -m toolchain.drift STACK")
    name = sys.argv[1]
    with opened(name) as stack:
        file = PROJECT / "build" / "drift" / f"{name}.md"
        file.unlink(missing_ok=True)  # of an earlier run: it is there where this one finds something
        done, told = events_of(stack, "refresh", "--preview-only")
        drift = drift_of(told) + [str(addition) for addition in additions(stack)]
    if done.returncode != 0:
        raise ToolchainError(f"the drift of stack {name} cannot be told:\n{done.stdout}{done.stderr.strip()}")
    if not drift:
        say(f"Stack {name} is as the last make up left it")
        return
    write(file, markdown(name, drift))
    sys.exit(DEVIATION)


if __name__ == "__main__":
    run_command(main)
