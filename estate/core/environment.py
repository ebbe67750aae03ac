"""Variables of the environment that the commands read, and the path of uv."""

import os
import shutil
from pathlib import Path

from estate.core.console import EstateError
from estate.core.paths import CACHE

TARGET, CONTEXT = "ESTATE_TARGET", "ESTATE_CONTEXT"
"""Variables that choose the tools and the Kubernetes, like the options --target and --context."""
EMBEDDED, SYSTEM = "embedded", "system"
"""Targets: the tools and the cluster of this project, or those of the machine."""


def uv() -> Path:
    """Return the path of uv: the one that runs this process, the one on PATH, or the one that make has installed.

    Raises:
        EstateError: there is none.
    """
    found = os.environ.get("UV") or shutil.which("uv") or max(map(str, CACHE.glob("uv-*/bin/uv")), default=None)
    if not found:
        raise EstateError("uv is not on PATH, and not in the cache: make install puts it there")
    return Path(found)
