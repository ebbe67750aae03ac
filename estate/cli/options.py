"""Options that several commands take."""

from typing import Annotated

import typer

StackName = Annotated[str, typer.Option("--stack", "-s", envvar="ESTATE_STACK", help="Name of the stack.")]
NamedStack = Annotated[
    str, typer.Option("--stack", "-s", help="Name of the stack; it has no default, since data may be lost.")
]
Agreed = Annotated[bool, typer.Option("--yes", help="Do not ask where data may be lost.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
LOCAL = "local"
"""Name of the stack that a command is for if none is named."""
