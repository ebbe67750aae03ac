"""Each package declares what it imports, and relies on no dependency that another package declares."""

import subprocess
import sys
from pathlib import Path

import pytest

from estate.core.paths import PROJECT

DEPTRY = Path(sys.executable).with_name("deptry")
APPS = sorted(file.parent.name for file in PROJECT.glob("apps/*/pyproject.toml"))


def deptry(folder: Path, *words: str) -> str:
    """Return deptry's findings in a package, by the pyproject.toml of its folder."""
    command = [DEPTRY, "--no-ansi", *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return done.stderr if done.returncode else ""


@pytest.mark.parametrize("app", APPS)
def test_an_app_declares_what_it_imports(app: str) -> None:
    assert deptry(PROJECT / "apps" / app, "src") == ""


def test_the_program_and_its_policies_need_no_development_tools() -> None:
    assert deptry(PROJECT, "infra", "policies") == ""


def test_estate_declares_what_it_imports() -> None:
    """Ignore DEP004, since estate never runs without the development tools, and DEP002, since others use the project's dependencies too."""
    assert deptry(PROJECT, "estate", "--ignore", "DEP002,DEP004") == ""


def test_an_import_of_something_undeclared_is_found(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "shop"\nversion = "1"\ndependencies = []\n')
    (tmp_path / "shop.py").write_text("import cryptography\n")
    assert "'cryptography' imported but" in deptry(tmp_path, ".")
