"""Copies of the project, for commands that change it."""

import os
import shutil
import subprocess
from pathlib import Path

from estate.core.paths import PROJECT


def files_of_project() -> list[str]:
    """Return the paths of the files that git would commit of the project as it is."""
    words = ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    listed = subprocess.run(words, cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    return [name for name in listed.split("\0") if name and (PROJECT / name).is_file()]


def copy_of_project(to: Path) -> Path:
    """Copy what git would commit of the project as it is, without the repository."""
    for name in files_of_project():
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(PROJECT / name, to / name)
    return to


def of_a_shell() -> dict[str, str]:
    """Return the environment without the variables that the tests' own make and virtual environment have set.

    A make within make does not check its variables.
    """
    return {
        name: value
        for name, value in os.environ.items()
        if name not in ("MAKELEVEL", "MAKEFLAGS", "MFLAGS", "VIRTUAL_ENV")
    }


def run_in(folder: Path, *words: str, **environment: str) -> str:
    """Run a command in a copy, with the copy's own virtual environment by default, and return its output."""
    done = subprocess.run(
        words, cwd=folder, env=of_a_shell() | environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{' '.join(words)}:\n{done.stdout}{done.stderr}"
    return done.stdout
