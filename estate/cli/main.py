"""The command `estate`."""

from typing import Any

import typer
from typer.core import TyperGroup

from estate.cli import cluster, data, delivery, development, secrets, stack
from estate.core.console import run_command


class Commands(TyperGroup):
    """All commands, each of which ends with one line and an exit code when it fails; what is not understood ends with 2 (Typer's own)."""

    def invoke(self, ctx: Any) -> None:
        """Run the command that was asked for."""
        run_command(lambda: super(Commands, self).invoke(ctx))


main = typer.Typer(
    name="estate",
    cls=Commands,
    help="Bring up a product and everything that it runs on, from one Pulumi program.",
    epilog="Exit codes: 0 done, 1 failed, 2 not understood, 3 the stack is not as it should be.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)
for part in (stack, delivery, data, secrets, cluster, development):
    main.add_typer(part.app)
