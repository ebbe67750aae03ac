"""`estate preview --markdown`: write a preview as a comment for a pull request, with possible data loss first and harmless changes collapsed."""

from collections import Counter

from estate.core.console import EstateError
from estate.core.markdown import folded, listed, marked, write
from estate.core.paths import PROJECT
from estate.ops.update import opened, policies
from estate.pulumi.events import Preview, events_of, preview_of


def markdown(name: str, preview: Preview) -> str:
    """Return the comment: errors and violated policies, the risky changes, and the rest collapsed."""
    counts = ", ".join(f"{count} to {op}" for op, count in sorted(Counter(c.op for c in preview.changes).items()))
    losing = [str(change) for change in preview.risky if change.loses_data]
    risky = [str(change) for change in preview.risky if not change.loses_data]
    harmless = [str(change) for change in preview.changes if not change.risky]
    return marked(
        f"preview of {name}",
        f"### Stack {name}: {counts or 'no changes'}",
        listed("The preview failed", preview.errors),
        listed("Refused by policies", preview.refused),
        listed("⚠ May lose data, or what holds it", losing),
        listed("Deleted or replaced", risky),
        folded(f"{len(harmless)} other changes", harmless),
        folded(f"{len(preview.advised)} remarks of policies", preview.advised),
    )


def summarize(name: str) -> None:
    """Preview the update of a stack, and write the comment for a pull request into build/preview.

    Raises:
        EstateError: the preview failed.
    """
    with opened(name) as stack:
        done, seen = events_of(stack, "preview", *policies(stack.settings.stage))
    write(PROJECT / "build" / "preview" / f"{name}.md", markdown(name, preview_of(seen)))
    if done.returncode != 0:
        raise EstateError(f"the preview of stack {name} failed:\n{done.stdout}{done.stderr.strip()}")
