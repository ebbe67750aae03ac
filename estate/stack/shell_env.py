"""`eval "$(estate env)"`: set up this shell to use the estate's kubectl and pulumi on the estate."""

import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

from estate import UV_OPTIONS
from estate.cluster.tools import at_hand
from estate.core.console import say
from estate.core.environment import CONTEXT, TARGET, uv
from estate.stack.target import Target, target


def exports(of: Target, folders: list[Path], command: Path, own: Mapping[str, str]) -> list[str]:
    """Return export commands for a shell.

    Args:
        of: the target of the estate.
        folders: the folders of programs to prepend to PATH.
        command: the folder of the command estate; it comes last, since it has a Python as well.
        own: the environment of the command; variables with the same value in it are omitted.
    """
    given = {name: value for name, value in own.items() if name not in UV_OPTIONS}  # set by us
    differing = {
        name: value for name, value in sorted(of.environment.items()) if name != "PATH" and given.get(name) != value
    }
    path = "".join(f"{shlex.quote(str(folder))}:" for folder in folders)
    return [
        *(f"export {name}={shlex.quote(value)}" for name, value in differing.items()),
        f'export PATH={path}"$PATH":{shlex.quote(str(command))}',
    ]


def show() -> None:
    """Print the export commands."""
    known = target()
    own = [at_hand().bin] if known.embedded else []
    # The command has set these itself, and the shell has to.
    shell = {name: value for name, value in os.environ.items() if name not in (TARGET, CONTEXT)}
    say("\n".join(exports(known, [*own, uv().parent], Path(sys.executable).parent, shell)))
