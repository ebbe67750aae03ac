"""Check of Postgres' major version: each can read only its own data (https://www.postgresql.org/docs/current/upgrading.html)."""

import re

from estate.core.console import EstateError
from estate.stack.model import Stack, ask

MAJOR = re.compile(r":(\d+)[^/:@]*(?:@|$)")
"""Pattern of an image tag that begins with a major version, as upstream's tags do: `:15`, `:15.8-bookworm`, `:15@sha256:…`."""


def refuse_other_major(stack: Stack) -> None:
    """Refuse a stack whose Postgres image is known to have another major version than the data on its volume.

    CloudNativePG upgrades data between versions itself, and validates the change in the preview.

    Args:
        stack: the stack to update.

    Raises:
        EstateError: the major versions differ; nothing was changed.
    """
    image = stack.settings.images.postgres
    if stack.settings.postgres.kind != "instance" or not (named := MAJOR.search(image)):
        return
    there = major_of_data(stack)
    if there and there != named[1]:
        raise EstateError(
            f"the data of stack {stack.name} is of Postgres {there}, which {image} cannot read, and nothing was changed: "
            f"keep images.postgres at {there}, or carry the data over as docs/recovery.md#volumes says"
        )


def major_of_data(stack: Stack) -> str | None:
    """Return the major version of the data on a stack's volume; None if no Postgres runs to read it from."""
    try:
        version = ask(stack, "exec", "statefulset/postgres", "--", "sh", "-c", 'cat "$PGDATA/PG_VERSION"')
    except EstateError:
        return None
    return version.strip() or None
