"""Folders, by the XDG rules: a cache for builds, and state for what it runs."""

from pathlib import Path

import platformdirs

PROJECT = Path(__file__).resolve().parents[2]

CACHE = platformdirs.user_cache_path("estate")
"""Folder of tools and downloads: may be deleted at any time, `estate tools build` restores it."""

STATE = platformdirs.user_state_path("estate")
"""Folder of the embedded cluster, and of the Pulumi state of stacks with the local backend."""


def write_whole(file: Path, text: str) -> None:
    """Write a file atomically."""
    new = file.with_name(f"{file.name}.new")
    try:
        new.write_text(text)
        new.replace(file)
    except OSError:
        new.unlink(missing_ok=True)
        raise
