"""The command `estate`."""

import os
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from estate.cli import cluster, data, delivery, development, secrets, stack
from estate.core.console import run_command
from estate.core.environment import CONTEXT, EMBEDDED, TARGET


class Commands(TyperGroup):
    """All commands, each of which ends with one line and an exit code when it fails; what is not understood ends with 2 (Typer's own)."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the commands with their whole summaries, which Click would cut to one line."""
        listed = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl([(name, one.get_short_help_str(1000)) for name, one in listed if one and not one.hidden])

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


@main.callback()
def choose(
    target: Annotated[
        str, typer.Option(envvar=TARGET, help="Tools and Kubernetes: embedded, or system for those of the machine.")
    ] = EMBEDDED,
    context: Annotated[
        str, typer.Option(envvar=CONTEXT, help="Context of the Kubernetes to use, with --target system.")
    ] = "",
) -> None:
    """Choose the tools and the Kubernetes of all commands, and of the programs that they run."""
    os.environ |= {TARGET: target, CONTEXT: context}
