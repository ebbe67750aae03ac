import difflib
import os
import re
import shutil
import sys
import textwrap
from pathlib import Path

import pytest
import yaml

from tests.copies import copy_of_project, run_in
from toolchain import new_service
from toolchain.console import ToolchainError
from toolchain.new_service import create, declared, problem
from toolchain.paths import PROJECT

NAME = "stock-list"
PACKAGE = "stock_list"
pytestmark = pytest.mark.timeout(900)  # it checks and tests a whole copy
UV = os.environ.get("UV", "uv")
HERE = {"UV_PROJECT_ENVIRONMENT": sys.prefix, "UV_NO_SYNC": "1"}
"""Lets uv run what is in a copy by the virtual environment of these tests, as it is: to make another took most of the time."""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project, in which there is one more service."""
    folder = copy_of_project(tmp_path_factory.mktemp("project"))
    run_in(folder, "make", "new-service", f"NAME={NAME}", **HERE)
    return folder


def in_copy(project: Path, *words: str, **environment: str) -> str:
    found = os.pathsep.join([str(project), str(project / "apps" / NAME / "src")])
    return run_in(project, UV, "run", "--quiet", "--frozen", *words, **HERE, **environment, PYTHONPATH=found)


def test_the_service_passes_every_check_that_the_project_has(project: Path) -> None:
    changed = ("infra/services.py", f"apps/{NAME}", f"tests/unit/{PACKAGE}", f"tests/e2e/test_{PACKAGE}.py")
    in_copy(project, "ruff", "format", "--check", *changed)
    in_copy(project, "ruff", "check", *changed)
    in_copy(project, "basedpyright", *changed)
    in_copy(project, "pytest", "tests/unit/test_dependencies.py")


def test_its_own_tests_and_those_of_the_estate_pass(project: Path) -> None:
    in_copy(project, "pytest", f"tests/unit/{PACKAGE}", "tests/estate")


def test_it_calls_another_service_as_the_page_says(project: Path, tmp_path: Path) -> None:
    copy = tmp_path / "calling"
    shutil.copytree(project, copy, symlinks=True)
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
        copy, "pytest", f"tests/unit/{PACKAGE}", "tests/estate/test_network_policies.py", "tests/estate/test_program.py"
    )
    started = {"APP_CALLS_USER_SERVICE_URL": "http://user-service:8080", "APP_CALLS_USER_SERVICE_PASSES_TOKEN": "true"}
    shown = in_copy(copy, "python", "-m", PACKAGE, "--print-config", **started)
    assert yaml.safe_load(shown)["calls"]["user_service"]["passes_token"] is True


def test_the_project_installs_it_with_all_that_it_imports(project: Path, tmp_path: Path) -> None:
    alone = ("--frozen", "--no-dev", "--package", NAME)
    own = {"UV_PROJECT_ENVIRONMENT": str(tmp_path / "environment")}
    run_in(project, UV, "run", "--quiet", *alone, "python", "-c", f"import {PACKAGE}.main", **own)


def test_it_is_declared_in_at_most_ten_lines(project: Path) -> None:
    file = Path("infra", "services.py")
    before, after = [(folder / file).read_text().splitlines() for folder in (PROJECT, project)]
    changed = [line for line in difflib.ndiff(before, after) if line[0] in "+-"]
    assert 1 <= len(changed) <= 10
    assert any(f'"{NAME}"' in line for line in changed)


def test_nothing_is_left_of_the_sample(project: Path) -> None:
    for folder in new_service.places(NAME):
        for file in [project / folder, *(project / folder).rglob("*")]:
            assert "sample" not in file.name.lower()
            assert not file.is_file() or "sample" not in file.read_text(errors="replace").lower(), file


def test_a_second_time_is_refused(project: Path) -> None:
    with pytest.raises(AssertionError, match=f"error: there is apps/{NAME} already: remove it first"):
        run_in(project, "make", "new-service", f"NAME={NAME}", **HERE)


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
    assert "make new-service NAME=orders" in refused


def test_nothing_is_left_when_uv_cannot_add_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = copy_of_project(tmp_path)
    before = {path: path.read_bytes() for path in project.rglob("*") if path.is_file()}
    monkeypatch.setattr(new_service, "PROJECT", project)
    monkeypatch.setenv("UV", "false")
    with pytest.raises(ToolchainError, match="uv could not add orders to the project, nothing was changed"):
        create("orders")
    caches = {path for path in project.rglob("*") if ".ruff_cache" in path.parts}
    assert {p: p.read_bytes() for p in project.rglob("*") if p.is_file() and p not in caches} == before


def test_declarations_that_are_written_otherwise_are_left_to_a_person() -> None:
    with pytest.raises(ToolchainError, match="declare orders in it by hand"):
        declared("SERVICES = ()\n", "orders")
