"""`make new-service`: another service behind the gateway, from templates/service and a line in infra/services.py."""

import importlib.metadata
import importlib.util
import keyword
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from infra.services import SERVICES
from toolchain.console import ToolchainError, run_command, say, step
from toolchain.paths import PROJECT
from toolchain.program import run_program

USAGE = "make new-service NAME=orders"
TEMPLATES = Path("toolchain", "templates", "service")
SAMPLE = "sample-service"
"""What the service of the templates is called."""
IMAGE, IMAGE_OF = ("Dockerfile", "Dockerfile.dockerignore"), "user-service"
"""Every service's image is made in one way: these are taken from a service that there is."""
DECLARATIONS = Path("infra", "services.py")
EDITED = (DECLARATIONS, Path("pyproject.toml"), Path("uv.lock"), Path("docs", "architecture.md"))
NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
LONGEST = 40
"""Kubernetes' limit is 63, and what belongs to a service is named after it, with more behind."""


def main() -> None:
    if len(sys.argv) != 2:
        raise ToolchainError(f"usage: {USAGE}")
    name = sys.argv[1]
    if wrong := problem(name):
        raise ToolchainError(wrong)
    with step(f"service {name}"):
        made = create(name)
    for path in (*made, *EDITED):
        say(f"  {path}")
    say(f"Next: make test-fast, then make up; it answers at {served(name)} (docs/new-service.md)")


def problem(name: str) -> str | None:
    """Why no service can have this name, and what to do; None where one can."""
    package = packaged(name)
    other = f"choose another name ({USAGE})"
    if not NAME.fullmatch(name) or len(name) > LONGEST:
        return f"{name!r} names no service: {LONGEST} lower-case letters, digits and single hyphens at the most, a letter first ({USAGE})"
    for service in SERVICES:
        if service.name != name and served(name) in service.prefixes:
            return f"{service.name} serves {served(name)} already: {other}"
    for path in places(name):
        if (PROJECT / path).exists():
            return f"there is {path} already: remove it first, or {other}"
    if keyword.iskeyword(package) or importlib.util.find_spec(package):
        return f"{package} means something else in Python: {other}"
    if any(packaged(found.name.lower()) == package for found in importlib.metadata.distributions()):
        return f"{name} is a package that the project uses: {other}"
    if name in {resource.name for resource in run_program("local")}:
        return f"the estate has something called {name} already: {other}"
    return None


def served(name: str) -> str:
    """Path at which the gateway serves a service."""
    return f"/api/v1/{name}"


def packaged(name: str) -> str:
    """Name of the Python package of a service."""
    return name.replace("-", "_")


def places(name: str) -> tuple[Path, Path, Path]:
    """What is made for a service, relative to the project."""
    package = packaged(name)
    return Path("apps", name), Path("tests", "unit", package), Path("tests", "e2e", f"test_{package}.py")


def create(name: str) -> tuple[Path, ...]:
    """Make the service; either all of it, or nothing.

    Raises:
        ToolchainError: uv could not add it to the project.
    """
    made = places(name)
    edited = {PROJECT / path: (PROJECT / path).read_bytes() for path in EDITED}
    with tempfile.TemporaryDirectory(prefix=".new-service-", dir=PROJECT) as folder:
        staged = Path(folder)
        render(name, staged)
        try:
            for path in (*made, DECLARATIONS):
                (staged / path).replace(PROJECT / path)
            # The order of imports and the breaks of lines depend on the name.
            for words in (("check", "--fix", "--select", "I"), ("format",)):
                command = [sys.executable, "-m", "ruff", *words, "--quiet", *map(str, (*made, DECLARATIONS))]
                subprocess.run(command, cwd=PROJECT, check=True)
            add_to_project(name)
            subprocess.run([sys.executable, "-m", "toolchain.architecture"], cwd=PROJECT, check=True)
        except BaseException:
            for path in made:
                remove(PROJECT / path)
            for file, content in edited.items():
                file.write_bytes(content)
            raise
    return made


def render(name: str, into: Path) -> None:
    """Write the service's files, and the declarations with its own, into a folder like the project's."""
    for file in (PROJECT / TEMPLATES).rglob("*"):
        if file.is_file() and "__pycache__" not in file.parts:
            write(into / renamed(str(file.relative_to(PROJECT / TEMPLATES)), SAMPLE, name), file, SAMPLE, name)
    for part in IMAGE:
        write(into / "apps" / name / part, PROJECT / "apps" / IMAGE_OF / part, IMAGE_OF, name)
    (into / DECLARATIONS).parent.mkdir()
    (into / DECLARATIONS).write_text(declared((PROJECT / DECLARATIONS).read_text(), name))


def write(to: Path, template: Path, sample: str, name: str) -> None:
    """Write a template under another name."""
    to.parent.mkdir(parents=True, exist_ok=True)
    to.write_text(renamed(template.read_text(), sample, name))


def renamed(text: str, sample: str, name: str) -> str:
    """A text about one service as one about another, in each of the ways that names are spelt."""

    def camel(of: str) -> str:
        return "".join(word.capitalize() for word in of.split("-"))

    for spelt in (str, packaged, camel):
        text = text.replace(spelt(sample), spelt(name))
    return text


def declared(source: str, name: str) -> str:
    """The declarations, with one more.

    Raises:
        ToolchainError: they are not written as they were.
    """
    head, found, rest = source.partition("\nSERVICES = (\n")
    services, end, tail = rest.partition("\n)\n")
    if not found or not end:
        raise ToolchainError(f"{DECLARATIONS} has no SERVICES = (…) over several lines: declare {name} in it by hand")
    entry = f'    Service("{name}", needs=("consul",), prefixes=("{served(name)}",)),'
    return f"{head}{found}{services}\n{entry}{end}{tail}"


def add_to_project(name: str) -> None:
    """Let the project install the service, and lock it.

    Raises:
        ToolchainError: uv could not; with its words.
    """
    command = [os.environ.get("UV", "uv"), "add", "--quiet", "--no-sync", "--group", "dev", name]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ToolchainError(f"uv could not add {name} to the project, nothing was changed: {done.stderr.strip()}")


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


if __name__ == "__main__":
    run_command(main)
