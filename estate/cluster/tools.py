"""Tools for the running cluster: this checkout's, or until they are built, those that the cluster was started with."""

import json
from pathlib import Path

from estate.cluster.layout import TOOLS
from estate.cluster.pki import write_private
from estate.core.console import EstateError
from estate.tools.build import Toolbox, toolbox


def keep(box: Toolbox) -> None:
    """Record the tools that the cluster is started with."""
    write_private(TOOLS, json.dumps([str(box.folder), str(box.debian)]))


def at_hand() -> Toolbox:
    """Return this checkout's tools, or while they are not built (after a pull, for example), those that the cluster was started with.

    Raises:
        EstateError: neither set of tools exists.
    """
    box = toolbox()
    if not box.folder.exists() and TOOLS.exists():
        box = Toolbox(*map(Path, json.loads(TOOLS.read_text())))
    if not box.folder.exists():
        raise EstateError(
            "the tools of this checkout are not built yet: estate tools build builds them, make up starts the cluster too"
        )
    return box
