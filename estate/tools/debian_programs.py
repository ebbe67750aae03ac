"""Debian programs that tests run alongside ours: HAProxy, nginx, Postgres, Redis.

The first test that needs them unpacks them into the cache. Nothing is installed, so that no service starts.
"""

import os
import shutil
import tomllib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from estate.core.console import EstateError, step
from estate.tools.build import HERE, Debian, locked, unpack_debian


@dataclass(frozen=True)
class DebianPrograms:
    """The unpacked packages of [debian-tests] in tools.toml."""

    root: Path

    @cached_property
    def environment(self) -> dict[str, str]:
        """Return the environment to run the programs in: their folders on PATH, their libraries on LD_LIBRARY_PATH."""
        folders = ["usr/bin", "usr/sbin", "usr/lib/postgresql/*/bin"]
        programs = [str(found) for folder in folders for found in self.root.glob(folder)]
        libraries = [str(found) for found in self.root.glob("usr/lib/*-linux-gnu")]
        return os.environ | {
            "PATH": os.pathsep.join([*programs, os.environ.get("PATH", os.defpath)]),
            "LD_LIBRARY_PATH": os.pathsep.join(libraries),
        }

    def command(self, program: str, *words: str) -> list[str]:
        """Return the command that runs a program; run it with `environment`.

        Raises:
            EstateError: no package of the table has the program.
        """
        found = shutil.which(program, path=self.environment["PATH"])
        if not found or not found.startswith(str(self.root)):
            raise EstateError(f"no package of [debian-tests] in tools.toml has the program {program}")
        return [found, *words]

    def unprivileged_command(self, program: str, *words: str) -> list[str]:
        """Return the command for a program that refuses to run as root, as Postgres does.

        In a user namespace the same user has another id, so it can still read this cache, which other users may not.
        """
        command = self.command(program, *words)
        return (
            ["unshare", "--user", "--map-user=65534", "--map-group=65534", *command] if os.geteuid() == 0 else command
        )


def debian_programs() -> DebianPrograms:
    """Unpack the programs, unless that is done already.

    Raises:
        EstateError: a package cannot be downloaded.
    """
    table = tomllib.loads((HERE / "tools.toml").read_text())["debian-tests"]
    debian = Debian(table["suite"], tuple(table["unpacked"]), installed=())
    if not debian.folder.exists():
        with locked("debian-tests"), step("Debian packages for tests"):
            unpack_debian(debian)
    return DebianPrograms(debian.folder)
