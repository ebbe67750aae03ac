"""`estate new service`: scaffold a new service behind the gateway, from templates and a declaration in infra/services.py.

Templates are written for `sample-service`. The lines between `#: database` and `#: end` are only for a service with tables, those after
`#: else` only for a service without; likewise `#: calls`, and `#: part` for either. The lines between `#: each callee` and `#: end each` are
repeated for each called service.
"""

import importlib.metadata
import importlib.util
import keyword
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from estate.core.console import EstateError, UsageError, say, step
from estate.core.environment import uv
from estate.core.paths import PROJECT
from estate.pulumi.program import run_program
from estate.stack.model import stack_names
from infra.services import LONGEST_NAME, SERVICES, WORDS
from infra.stack_file import nearest

USAGE = "estate new service orders"
TEMPLATES = Path("estate", "scaffold", "templates")
SAMPLE, CALLEE = "sample-service", "callee-service"
"""Names of the service in the templates, and of a service that it calls."""
CALLEE_PATH = "/callee-path"
"""Path that the templates request from the called service."""
EACH = re.compile(r"^ *#: each callee\n(.*?)^ *#: end each\n", re.MULTILINE | re.DOTALL)
ONLY = re.compile(
    r"^ *#: (database|calls|part)\n((?:(?! *#: ).*\n)*)(?: *#: else\n((?:(?! *#: ).*\n)*))? *#: end\n", re.MULTILINE
)
IMAGE, IMAGE_OF = ("Dockerfile", "Dockerfile.dockerignore"), "user-service"
"""Files of an image, and the existing service to copy them from: all services' images are built in the same way."""
DECLARATIONS = Path("infra", "services.py")
EDITED = (DECLARATIONS, Path("pyproject.toml"), Path("uv.lock"), Path("docs", "architecture.md"))


@dataclass(frozen=True)
class Wanted:
    """A service to create."""

    name: str
    database: bool = False
    """True if the service has a table of its own."""
    calls: tuple[str, ...] = ()
    """Names of the services that it calls."""

    @property
    def parts(self) -> dict[str, bool]:
        """Return the conditional parts of the templates, and whether the service has each."""
        return {"database": self.database, "calls": bool(self.calls), "part": self.database or bool(self.calls)}

    @property
    def declaration(self) -> str:
        """Return the service's line in infra/services.py."""
        needs = ("postgres", "consul") if self.database else ("consul",)
        more = {"calls": self.calls, "passes_token_to": self.calls, "migrates": self.database}
        said = "".join(f", {key}={value!r}" for key, value in more.items() if value)
        return f'    Service("{self.name}", needs={needs!r}, prefixes=("{served(self.name)}",){said}),'


def make(name: str, calls: str | None, *, database: bool) -> None:
    """Make a service.

    Args:
        name: the name of the service.
        calls: the names of the services that it calls, with commas between them; None if it calls none.
        database: whether it has a table of its own.

    Raises:
        EstateError: the service cannot be made.
    """
    wanted = Wanted(name, database, () if calls is None else tuple(re.split(r"[\s,]+", calls.strip(" ,"))))
    if wrong := problem(name) or wrong_calls(wanted):
        raise UsageError(wrong)
    with step(f"service {name}"):
        made = create(wanted)
    for path in (*made, *EDITED):
        say(f"  {path}")
    say(f"Next: make test-fast, then make up; it answers at {served(name)} (docs/new-service.md)")


def problem(name: str) -> str | None:
    """Return why a service cannot have this name, and what to do; None if it can."""
    package = packaged(name)
    other = f"choose another name ({USAGE})"
    if not re.fullmatch(WORDS, name) or len(name) > LONGEST_NAME:
        return f"{name!r} names no service: {LONGEST_NAME} lower-case letters, digits and single hyphens at the most, a letter first ({USAGE})"
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
    for stack in stack_names():
        if name in {resource.name for resource in run_program(stack)}:
            return f"the estate has something called {name} already, in stack {stack}: {other}"
    return None


def wrong_calls(wanted: Wanted) -> str | None:
    """Return why a service cannot call the given services, and what to do; None if it can."""
    known = [service.name for service in SERVICES]
    for name in wanted.calls:
        if name == wanted.name:
            return f"{name} cannot call itself: leave it out of --calls"
        if name not in known:
            return f"--calls names {name!r}, and there is no such service behind the gateway: {nearest(name, known)}"
        if wanted.calls.count(name) > 1:
            return f"--calls names {name} twice: name it once"
    return None


def served(name: str) -> str:
    """Return the path at which the gateway serves a service."""
    return f"/api/v1/{name}"


def packaged(name: str) -> str:
    """Return the name of a service's Python package."""
    return name.replace("-", "_")


def places(name: str) -> tuple[Path, Path, Path]:
    """Return the paths that are created for a service, relative to the project."""
    package = packaged(name)
    return Path("apps", name), Path("tests", "unit", package), Path("tests", "live", f"test_{package}.py")


def create(wanted: Wanted) -> tuple[Path, ...]:
    """Create the service, either completely or not at all.

    Raises:
        EstateError: uv could not add the service to the project.
    """
    name, made = wanted.name, places(wanted.name)
    edited = {PROJECT / path: (PROJECT / path).read_bytes() for path in EDITED}
    with tempfile.TemporaryDirectory(prefix=".new-service-", dir=PROJECT) as folder:
        staged = Path(folder)
        render(wanted, staged)
        try:
            for path in (*made, DECLARATIONS):
                (staged / path).replace(PROJECT / path)
            # The order of imports and the line breaks depend on the name and the parts.
            ruff("check", "--fix", "--select", "I", *made)
            ruff("format", "--config", "format.skip-magic-trailing-comma=true", *made)
            ruff("format", *made, DECLARATIONS)
            add_to_project(name)
            subprocess.run([sys.executable, "-m", "estate", "docs", "architecture"], cwd=PROJECT, check=True)
        except BaseException:
            for path in made:
                remove(PROJECT / path)
            for file, content in edited.items():
                file.write_bytes(content)
            raise
    return made


def ruff(*words: str | Path) -> None:
    """Run ruff in the project."""
    subprocess.run([sys.executable, "-m", "ruff", *map(str, words), "--quiet"], cwd=PROJECT, check=True)


def render(wanted: Wanted, into: Path) -> None:
    """Write the service's files, and the declarations with its own added, into a folder laid out like the project."""
    name = wanted.name
    for part in ("service", *(["database"] if wanted.database else [])):
        templates = PROJECT / TEMPLATES / part
        for file in templates.rglob("*"):
            if file.is_file() and "__pycache__" not in file.parts:
                to = into / renamed(str(file.relative_to(templates)), SAMPLE, name)
                to.parent.mkdir(parents=True, exist_ok=True)
                to.write_text(renamed(chosen(file.read_text(), wanted), SAMPLE, name))
    for part in IMAGE:
        text = (PROJECT / "apps" / IMAGE_OF / part).read_text()
        (into / "apps" / name / part).write_text(renamed(text, IMAGE_OF, name))
    (into / DECLARATIONS).parent.mkdir()
    (into / DECLARATIONS).write_text(declared((PROJECT / DECLARATIONS).read_text(), wanted))


def chosen(template: str, wanted: Wanted) -> str:
    """Return a template with only the parts that a service has."""
    asked = {service.name: next(iter(service.prefixes), "/health") for service in SERVICES}

    def for_each(found: re.Match[str]) -> str:
        return "".join(renamed(found[1], CALLEE, name).replace(CALLEE_PATH, asked[name]) for name in wanted.calls)

    def only(found: re.Match[str]) -> str:
        return found[2] if wanted.parts[found[1]] else found[3] or ""

    text, before = EACH.sub(for_each, template), ""
    while text != before:  # parts within parts
        text, before = ONLY.sub(only, text), text
    return text


def renamed(text: str, sample: str, name: str) -> str:
    """Replace one service's name with another's in a text, in every spelling."""

    def camel(of: str) -> str:
        return "".join(word.capitalize() for word in of.split("-"))

    for spelt in (str, packaged, camel):
        text = text.replace(spelt(sample), spelt(name))
    return text


def declared(source: str, wanted: Wanted) -> str:
    """Return the source of the declarations with the service's added.

    Raises:
        EstateError: the declarations are not in the expected format.
    """
    head, found, rest = source.partition("\nSERVICES = (\n")
    services, end, tail = rest.partition("\n)\n")
    if not found or not end:
        raise EstateError(
            f"{DECLARATIONS} has no SERVICES = (…) over several lines: declare {wanted.name} in it by hand"
        )
    return f"{head}{found}{services}\n{wanted.declaration}{end}{tail}"


def add_to_project(name: str) -> None:
    """Add the service to the project's dependencies and the lock file.

    Raises:
        EstateError: uv failed; with its error output.
    """
    command = [str(uv()), "add", "--quiet", "--no-sync", "--group", "dev", name]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise EstateError(f"uv could not add {name} to the project, nothing was changed: {done.stderr.strip()}")


def remove(path: Path) -> None:
    """Remove a file or a folder, if it exists."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
