"""`estate docs openapi`, `estate docs sbom` and `estate audit`: documents of the packages in the workspace and the lock file."""

import subprocess
import sys

from estate.core.console import EstateError, say
from estate.core.environment import uv
from estate.core.paths import PROJECT

SBOM = PROJECT / "build" / "sbom"


def write_openapi() -> None:
    """Write the OpenAPI documents of user-service, with the code of user-service itself."""
    run(sys.executable, "-m", "user_service.documents", "apps/user-service/openapi")


def write_components() -> None:
    """Write the components of each app's environment into build/sbom."""
    SBOM.mkdir(parents=True, exist_ok=True)
    for app in sorted(folder.parent.name for folder in (PROJECT / "apps").glob("*/Dockerfile")):
        file = SBOM / f"{app}.json"
        run(
            str(uv()), "export", "--quiet", "--frozen", "--no-dev", "--package", app,
            "--format", "cyclonedx1.5", "--output-file", str(file), shown=False,
        )  # fmt: skip
        say(str(file.relative_to(PROJECT)))


def audit() -> None:
    """Ask the database OSV for known vulnerabilities of the packages in the lock file."""
    run(str(uv()), "audit", "--frozen")


def run(*command: str, shown: bool = True) -> None:
    """Run a command in the project.

    Args:
        command: its words.
        shown: whether its standard output is of use to the caller.

    Raises:
        EstateError: it failed; its error output says why.
    """
    done = subprocess.run(command, cwd=PROJECT, stdout=None if shown else subprocess.DEVNULL, check=False)
    if done.returncode != 0:
        raise EstateError(f"{' '.join(command[:2])} failed (exit {done.returncode}): the lines above say why")
