"""`make licences`: under what the packages are that our images hold, as docs/licences.md, from what the packages themselves say."""

import os
import re
import subprocess
import sys

from infra.services import NAMES
from toolchain.console import ToolchainError, run_command, say
from toolchain.paths import PROJECT

PAGE = PROJECT / "docs" / "licences.md"
HEAD = """# Licences

What our images hold beside our own code, by the packages' own word. This page is made by `make licences`, and a test holds it to the lock file.

"""


def output(*words: str) -> str:
    """What a command prints.

    Raises:
        ToolchainError: it failed; with its words.
    """
    done = subprocess.run(words, cwd=PROJECT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ToolchainError(f"{words[0]} {words[1]} failed: {done.stderr.strip()}")
    return done.stdout


def deployed() -> list[str]:
    """Packages of others that the lock file puts into our images."""
    uv = os.environ.get("UV", "uv")
    services = [word for name in NAMES for word in ("--package", name)]
    locked = output(
        uv,
        "export",
        "--quiet",
        "--frozen",
        "--no-dev",
        "--no-hashes",
        "--no-emit-workspace",
        "--no-annotate",
        *services,
    )
    return sorted(set(re.findall(r"^([A-Za-z0-9._-]+)==", locked, re.MULTILINE)))


def page() -> str:
    """The whole of docs/licences.md."""
    table = output(
        sys.executable, "-m", "piplicenses", "--from=mixed", "--format=markdown", "--no-version", "--with-urls", "--packages", *deployed()
    )  # fmt: skip
    return HEAD + re.sub(r" {2,}", " ", re.sub(r"-{2,}", "---", table)) + "\n"


def main() -> None:
    PAGE.write_text(page())
    say(f"written: {PAGE}")


if __name__ == "__main__":
    run_command(main)
