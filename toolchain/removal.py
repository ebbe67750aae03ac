"""Remove large folders at once, with a rename, and delete them in the background, for which no command waits."""

import secrets
import shutil
import subprocess
from pathlib import Path

from toolchain.paths import CACHE, STATE

ROOTS = (CACHE, STATE)
"""Folders below which others are removed; each keeps those in a folder of its own, for a rename stays on one disk."""
DELETE = 'for again in 1 2 3; do rm -rf --one-file-system -- "$@" && exit; sleep 1; done'
"""Script that deletes again where a process that was ended wrote until it was gone, and nothing that is still mounted there."""


def removed(root: Path) -> Path:
    """Return where what is removed from a root waits for its deletion."""
    return root / "removed"


def remove(path: Path) -> None:
    """Remove a folder below one of the roots, if it is there; its content is deleted in the background."""
    if not path.exists():
        return
    place = removed(next(root for root in ROOTS if path.is_relative_to(root)))
    place.mkdir(parents=True, exist_ok=True)
    try:
        path.rename(place / f"{path.name}-{secrets.token_hex(8)}")
    except OSError:  # a mount point, or what is beyond one
        shutil.rmtree(path, ignore_errors=True)
    delete_removed()


def delete_removed() -> None:
    """Delete in the background what was removed, now or by a run that was killed."""
    if left := [str(path) for root in ROOTS for path in removed(root).glob("*")]:
        # In a session of its own, so that neither Ctrl-C nor the end of make ends it.
        command = ["setsid", "--fork", "nice", "--adjustment=19", "/bin/sh", "-c", DELETE, "sh", *left]
        quiet = subprocess.DEVNULL
        subprocess.run(command, cwd="/", stdin=quiet, stdout=quiet, stderr=quiet, check=False)
