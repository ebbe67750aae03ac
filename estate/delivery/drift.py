"""`estate drift`: report what has changed in the cluster since the last `make up` of a stack.

Exit code 0: no drift; 3: drift, which is reported; 1: drift could not be determined.
"""

from collections.abc import Iterable
from typing import Any

from estate.core.console import EstateError, say
from estate.core.markdown import listed, marked, write
from estate.core.paths import PROJECT
from estate.ops.update import opened
from estate.pulumi.events import Change, change, events_of
from estate.reconcile.additions import additions, foreign, leaving
from estate.stack.model import outputs
from estate.stack.objects import objects_of


def drift_of(seen: Iterable[dict[str, Any]]) -> list[str]:
    """Return a line for each Kubernetes object that a refresh found changed or gone.

    Images are excluded: a refresh reports changes of the working tree for them.
    """
    found = [event["resOutputsEvent"]["metadata"] for event in seen if "resOutputsEvent" in event]
    changed = [metadata for metadata in found if metadata["op"] in ("update", "delete")]
    return [line(change(metadata)) for metadata in changed if metadata["type"].startswith("kubernetes:")]


def line(found: Change) -> str:
    """Return a line about the change of a resource."""
    return f"{found.name} is gone" if found.op == "delete" else f"{found.name}: {', '.join(found.properties)}"


def markdown(name: str, drift: list[str]) -> str:
    """Return the text of the comment or the issue."""
    next_step = "What shall stay belongs into the program; the next `make up` puts back the rest."
    return marked(f"drift of {name}", listed(f"Stack {name} is not as the last make up left it", drift), next_step)


def differs(name: str) -> bool:
    """Return whether a stack differs from its last update; write the differences into build/drift, and print them.

    Raises:
        EstateError: the stack is not up, or the drift cannot be determined.
    """
    with opened(name) as stack:
        file = PROJECT / "build" / "drift" / f"{name}.md"
        file.unlink(missing_ok=True)  # from an earlier run: the file exists only if this run finds drift
        outputs(stack)  # refuses a stack that is not up
        done, seen = events_of(stack, "refresh", "--preview-only")
        if done.returncode != 0:
            raise EstateError(f"the drift of stack {name} cannot be determined:\n{done.stdout}{done.stderr.strip()}")
        found = objects_of(stack)
        drift = [*drift_of(seen), *leaving(found), *map(str, additions(found)), *foreign(found, stack.namespace)]
    if not drift:
        say(f"Stack {name} is as the last make up left it")
        return False
    write(file, markdown(name, drift))
    return True
