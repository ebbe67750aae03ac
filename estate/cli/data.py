"""Commands on a stack's data."""

from typing import Annotated

import typer

from estate.cli.options import LOCAL, Agreed, NamedStack, StackName
from estate.core.console import timed

app = typer.Typer()
backup = typer.Typer(no_args_is_help=True)
app.add_typer(backup, name="backup", help="Make backups.")


@backup.command()
def create(stack: StackName = LOCAL) -> None:
    """Dump the database now, in addition to the nightly dumps."""
    from estate.ops import backups

    with timed():
        backups.backup(stack)


@app.command()
def restore(
    stack: NamedStack,
    name: Annotated[str | None, typer.Argument(help="Name of the dump; the newest if none is named.")] = None,
    *,
    yes: Agreed = False,
) -> None:
    """Replace the contents of the database with a dump."""
    from estate.ops import backups

    with timed():
        backups.restore(stack, name, agreed=yes)
