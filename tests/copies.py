"""Copies of the project, for commands that change it."""

import os
import shutil
import subprocess
from pathlib import Path

from toolchain.paths import PROJECT


def copy_of_project(to: Path) -> Path:
    """What git would commit of the project as it is, without git."""
    words = ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    listed = subprocess.run(words, cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (PROJECT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(PROJECT / name, to / name)
    return to


def run_in(folder: Path, *words: str, **environment: str) -> str:
    """Run a command in a copy, by the copy's own virtual environment where nothing else is said, and return what it prints."""
    own = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    done = subprocess.run(words, cwd=folder, env=own | environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(words)}:\n{done.stdout}{done.stderr}"
    return done.stdout
