"""Tools that work on the cluster: this checkout's, and until they are built those that it was started with."""

import json
from pathlib import Path

from toolchain.build import Toolbox, toolbox
from toolchain.cluster.layout import TOOLS
from toolchain.cluster.pki import write_private
from toolchain.console import ToolchainError


def keep(box: Toolbox) -> None:
    """Write down that the cluster is started with these tools."""
    write_private(TOOLS, json.dumps([str(box.folder), str(box.debian)]))


def at_hand() -> Toolbox:
    """Return this checkout's tools, or while they are not built, as after a pull, those that the cluster was started with.

    Raises:
        ToolchainError: neither are there.
    """
    box = toolbox()
    if not box.folder.exists() and TOOLS.exists():
        box = Toolbox(*map(Path, json.loads(TOOLS.read_text())))
    if not box.folder.exists():
        raise ToolchainError(
            "the tools of this checkout are not built yet: make tools builds them, make up starts the cluster too"
        )
    return box
