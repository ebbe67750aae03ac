"""Remove large folders at once, with a rename, and delete them in the background, without delaying any command."""

import secrets
import shutil
import subprocess
from pathlib import Path

from estate.core.paths import CACHE, STATE

ROOTS = (CACHE, STATE)
"""Roots of the folders to remove; each root has its own folder for them, because a rename works only within one file system."""
DELETE = 'for again in 1 2 3; do rm -rf --one-file-system -- "$@" && exit; sleep 1; done'
"""Script that deletes folders, except mounted file systems; it retries, because a process that is ending may still write there."""


def removed(root: Path) -> Path:
    """Return the folder of a root in which removed folders await deletion."""
    return root / "removed"


def remove(path: Path) -> None:
    """Remove a folder below one of the roots, if it exists; its content is deleted in the background."""
    if not path.exists():
        return
    place = removed(next(root for root in ROOTS if path.is_relative_to(root)))
    place.mkdir(parents=True, exist_ok=True)
    try:
        path.rename(place / f"{path.name}-{secrets.token_hex(8)}")
    except OSError:  # a mount point, or a folder on another file system
        shutil.rmtree(path, ignore_errors=True)
    delete_removed()


def delete_removed() -> None:
    """Delete removed folders in the background, including those from a run that was killed."""
    if left := [str(path) for root in ROOTS for path in removed(root).glob("*")]:
        # In a session of its own, so that neither Ctrl-C nor the end of the command ends it.
        command = ["setsid", "--fork", "nice", "--adjustment=19", "/bin/sh", "-c", DELETE, "sh", *left]
        quiet = subprocess.DEVNULL
        subprocess.run(command, cwd="/", stdin=quiet, stdout=quiet, stderr=quiet, check=False)
