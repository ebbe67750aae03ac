import difflib
import os
import re
import shutil
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from estate.core.console import EstateError
from estate.core.environment import uv
from estate.core.paths import PROJECT
from estate.scaffold import new_service
from estate.scaffold.new_service import Wanted, create, declared, problem
from tests.support.copies import copy_of_project, of_a_shell, run_in

NAME = "stock-list"
PACKAGE = "stock_list"
pytestmark = pytest.mark.timeout(900)  # it checks and tests a whole copy
UV = str(uv())
MADE = (Path("uv.lock"), Path("docs", "architecture.md"))
"""Files of the project that commands generate."""
NEW = (UV, "run", "--quiet", "--frozen", "python", "-m", "estate", "new", "service")
IGNORED = {".ruff_cache", ".pytest_cache", ".hypothesis", "__pycache__", ".venv", "build"}
HERE = {"UV_PROJECT_ENVIRONMENT": sys.prefix, "UV_NO_SYNC": "1"}
"""Settings that let uv run commands in a copy with the virtual environment of these tests, as it is: making another took most of the time."""


WHOLE = Wanted(NAME, database=True, calls=("user-service",))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the project with one more service."""
    folder = copy_of_project(tmp_path_factory.mktemp("plain"))
    run_in(folder, *NEW, NAME, **HERE)
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the project with one more service, which has a table and calls another one."""
    folder = copy_of_project(tmp_path_factory.mktemp("whole"))
    run_in(folder, *NEW, NAME, "--database", "--calls=user-service", **HERE)
    return folder


@pytest.fixture(params=["plain", "whole"])
def project(request: pytest.FixtureRequest) -> Path:
    """Return either of the two copies."""
    return request.getfixturevalue(request.param)


def in_copy(project: Path, *words: str, **environment: str) -> str:
    found = os.pathsep.join([str(project), str(project / "apps" / NAME / "src")])
    return run_in(project, UV, "run", "--quiet", "--frozen", *words, **HERE, **environment, PYTHONPATH=found)


def test_the_service_passes_every_check_that_the_project_has(project: Path) -> None:
    changed = ("infra/services.py", f"apps/{NAME}", f"tests/unit/{PACKAGE}", f"tests/live/test_{PACKAGE}.py")
    in_copy(project, "ruff", "format", "--check", *changed)
    in_copy(project, "ruff", "check", *changed)
    in_copy(project, "basedpyright", *changed)
    in_copy(project, "pytest", "tests/unit/test_dependencies.py", "tests/unit/test_metrics_page.py")


def test_its_own_tests_and_those_of_the_estate_pass(project: Path) -> None:
    in_copy(project, "pytest", f"tests/unit/{PACKAGE}", "tests/program")


def test_one_that_is_there_calls_another_as_the_page_says(plain: Path, tmp_path: Path) -> None:
    copy = tmp_path / "calling"
    shutil.copytree(plain, copy, symlinks=True)
    page = (PROJECT / "docs" / "new-service.md").read_text().partition("## Calls to other services")[2]
    declaration, settings, _ = (
        new_service.renamed(textwrap.dedent(text), "orders", NAME)
        for text in re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    )
    services = copy / "infra" / "services.py"
    before = next(line for line in services.read_text().splitlines() if f'"{NAME}"' in line)
    services.write_text(services.read_text().replace(before, declaration.strip().removeprefix("(").removesuffix(")")))
    (copy / "apps" / NAME / "src" / PACKAGE / "settings.py").write_text(settings)
    in_copy(copy, "ruff", "format", "infra/services.py")
    in_copy(copy, "basedpyright", "infra/services.py", f"apps/{NAME}")
    in_copy(
        copy,
        "pytest",
        f"tests/unit/{PACKAGE}",
        "tests/program/test_network_policies.py",
        "tests/program/test_program.py",
    )
    started = {"APP_CALLS_USER_SERVICE_URL": "http://user-service:8080", "APP_CALLS_USER_SERVICE_PASSES_TOKEN": "true"}
    shown = in_copy(copy, "python", "-m", PACKAGE, "--print-config", **started)
    assert yaml.safe_load(shown)["calls"]["user_service"]["passes_token"] is True


def test_the_project_installs_it_with_all_that_it_imports(project: Path, tmp_path: Path) -> None:
    alone = ("--frozen", "--no-dev", "--package", NAME)
    own = {"UV_PROJECT_ENVIRONMENT": str(tmp_path / "environment")}
    run_in(project, UV, "run", "--quiet", *alone, "python", "-c", f"import {PACKAGE}.main", **own)


def test_it_takes_at_most_ten_lines_outside_its_folders(project: Path) -> None:
    """Count the changed lines, except those of the lock file and the picture, which commands generate."""
    kept = [path for path in of_git(project) if not any(path.is_relative_to(own) for own in new_service.places(NAME))]
    assert sorted(kept) == sorted(of_git(PROJECT))
    changed = {path for path in kept if (project / path).read_bytes() != (PROJECT / path).read_bytes()}
    assert changed == set(new_service.EDITED)
    lines = [line for path in changed - set(MADE) for line in difference(PROJECT / path, project / path)]
    assert 1 <= len(lines) <= 10
    assert all(line.startswith("+ ") for line in lines)
    assert any(f'"{NAME}"' in line for line in lines)


def of_git(project: Path) -> list[Path]:
    """Return the files that git would commit; ignored ones such as caches are not in a copy to begin with."""
    words = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    if project == PROJECT:
        listed = subprocess.run(words, cwd=PROJECT, capture_output=True, text=True, check=True).stdout
        return [Path(name) for name in listed.split("\0") if name and (PROJECT / name).is_file()]
    found = (path.relative_to(project) for path in project.rglob("*") if path.is_file())
    return [path for path in found if not IGNORED & set(path.parts)]


def difference(before: Path, after: Path) -> list[str]:
    """Return the lines in which two files differ, as ndiff marks them."""
    marked = difflib.ndiff(before.read_text().splitlines(), after.read_text().splitlines())
    return [line for line in marked if line[0] in "+-"]


def test_nothing_is_left_of_the_sample(project: Path) -> None:
    for folder in new_service.places(NAME):
        for file in [project / folder, *(project / folder).rglob("*")]:
            assert "sample" not in file.name.lower()
            text = file.read_text(errors="replace").lower() if file.is_file() and file.suffix != ".pyc" else ""
            assert not re.search(r"sample[-_]?service|callee[-_]?service|callee-path|#: ", text), file


@pytest.mark.parametrize("name", ["items", "calls", "service", "settings", "database", "field", "v1", "main", "called"])
@pytest.mark.parametrize("database", [True, False])
def test_no_name_takes_the_place_of_another_in_the_code(name: str, *, database: bool, tmp_path: Path) -> None:
    new_service.render(Wanted(name, database, ("user-service",)), tmp_path)
    found = os.pathsep.join([str(tmp_path / "apps" / name / "src"), str(PROJECT)])
    shown = run_in(tmp_path, sys.executable, "-m", name, "--print-config", PYTHONPATH=found)
    assert yaml.safe_load(shown)["service"]["name"] == name


def test_a_second_time_is_refused(plain: Path) -> None:
    with pytest.raises(AssertionError, match=f"error: there is apps/{NAME} already: remove it first"):
        run_in(plain, *NEW, NAME, **HERE)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            "user-servise",
            "--calls names 'user-servise', and there is no such service behind the gateway: did you mean user-service?",
        ),
        ("api-gateway", "--calls names 'api-gateway', and there is no such service behind the gateway: "),
        ("user-service, user-service", "--calls names user-service twice: name it once"),
        ("orders", "orders cannot call itself: leave it out of --calls"),
        (",", "--calls names '', and there is no such service behind the gateway"),
        ("$(id)", "--calls names '$(id)', and there is no such service behind the gateway"),
        ("", "--calls names '', and there is no such service behind the gateway"),
    ],
)
def test_what_a_service_cannot_have_is_refused_in_a_line(plain: Path, given: str, message: str) -> None:
    words = [*NEW, "orders", "--calls", given]
    done = subprocess.run(words, cwd=plain, env=of_a_shell() | HERE, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert not (plain / "apps" / "orders").exists()
    (line,) = done.stderr.splitlines()
    assert message in line


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "'' names no service"),
        ("Orders", "lower-case letters"),
        ("2orders", "a letter first"),
        ("orders-", "single hyphens"),
        ("or--ders", "single hyphens"),
        ("../orders", "names no service"),
        ("o" * 41, "40 lower-case"),
        ("user-service", "there is apps/user-service already"),
        ("class", "class means something else in Python"),
        ("json", "json means something else in Python"),
        ("fastapi", "fastapi means something else in Python"),
        ("pyjwt", "pyjwt is a package that the project uses"),
        ("prometheus", "the estate has something called prometheus already"),
        ("user-service-pods", "the estate has something called user-service-pods already"),
        ("users", "user-service serves /api/v1/users already"),
    ],
)
def test_a_name_that_cannot_be_is_refused_with_what_to_do(name: str, message: str) -> None:
    refused = problem(name)
    assert refused
    assert message in refused
    assert "estate new service orders" in refused


def test_nothing_is_left_when_uv_cannot_add_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = copy_of_project(tmp_path)
    before = {path: path.read_bytes() for path in project.rglob("*") if path.is_file()}
    monkeypatch.setattr(new_service, "PROJECT", project)
    monkeypatch.setenv("UV", "false")
    with pytest.raises(EstateError, match="uv could not add orders to the project, nothing was changed"):
        create(replace(WHOLE, name="orders"))
    caches = {path for path in project.rglob("*") if ".ruff_cache" in path.parts}
    assert {p: p.read_bytes() for p in project.rglob("*") if p.is_file() and p not in caches} == before


def test_declarations_that_are_written_otherwise_are_left_to_a_person() -> None:
    with pytest.raises(EstateError, match="declare orders in it by hand"):
        declared("SERVICES = ()\n", Wanted("orders"))
