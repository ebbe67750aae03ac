"""`estate docs licences`: list the licences of the packages in our images in docs/licences.md, from the packages' metadata."""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

from estate.core.console import EstateError, say
from estate.core.environment import uv
from estate.core.paths import PROJECT
from infra.services import NAMES
from infra.settings.images import Images

HEAD_LINES = 2
"""Number of header lines of a Markdown table."""
PAGE = PROJECT / "docs" / "licences.md"
HEAD = """# Licences

The software in our images other than our own code, with the licences that its packages declare.
This page is made by `estate docs licences`, and a test holds it to the lock file.

"""
# Instead of the option --python of pip-licenses, which splits paths at spaces.
LIST = """
import sys
from importlib import metadata
import piplicenses
found = list(metadata.distributions(path=[sys.argv.pop(1)]))
metadata.distributions = lambda path: found
piplicenses.main()
"""
PLATFORM = "x86_64-manylinux_2_28"


def output(*words: str) -> str:
    """Return what a command prints.

    Raises:
        EstateError: it failed; with its error output.
    """
    done = subprocess.run(words, cwd=PROJECT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise EstateError(f"{words[0]} {words[1]} failed: {done.stderr.strip()}")
    return done.stdout


def locked(uv: str) -> str:
    """Return the third-party packages that the lock file puts into our images, as requirements; one with a marker is only in some images."""
    services = [word for name in NAMES for word in ("--package", name)]
    return output(uv, "export", "--quiet", "--frozen", "--no-dev", "--no-emit-workspace", "--no-annotate", *services)


def install_for_images(uv: str, folder: Path) -> Path:
    """Install the packages for the images' Python, whichever version runs here, and return their folder."""
    requirements, packages = folder / "requirements.txt", folder / "packages"
    requirements.write_text(locked(uv))
    output(
        uv, "pip", "install", "--quiet", "--no-deps", "--require-hashes", "--requirements", str(requirements),
        "--target", str(packages), "--python-version", image_python(), "--python-platform", PLATFORM,
    )  # fmt: skip
    return packages


def image_python() -> str:
    """Return the version of Python in our images. The base image's tag names a minor version: its first patch release has the most packages."""
    return Images().python.rpartition(":")[2].partition("-")[0]


def listed(packages: Path) -> str:
    """Return the table of the packages in a folder.

    Raises:
        EstateError: there are none.
    """
    table = output(
        sys.executable, "-c", LIST, str(packages), "--from=mixed", "--format=markdown", "--no-version", "--with-urls"
    )
    if len(table.splitlines()) <= HEAD_LINES:
        raise EstateError(f"there are no packages in {packages}: docs/licences.md was left as it is")
    return re.sub(r" {2,}", " ", re.sub(r"-{2,}", "---", table))


def page() -> str:
    """Return the whole of docs/licences.md."""
    with tempfile.TemporaryDirectory() as folder:
        return HEAD + listed(install_for_images(str(uv()), Path(folder))) + "\n"


def write() -> None:
    """Write the page."""
    PAGE.write_text(page())
    say(f"written: {PAGE}")
