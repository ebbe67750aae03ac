"""The targets of the Makefile: the variables they take, and the environment of what they run."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from estate.core.paths import PROJECT
from tests.support.copies import of_a_shell

MAKEFILE = (PROJECT / "Makefile").read_text()
TARGETS = re.findall(r"^([a-z-]+):.*## ", MAKEFILE, re.MULTILINE)
UV = """#!{python}
import json, os, sys
if "estate" in sys.argv:
    print(json.dumps({{"words": sys.argv[1:], "environment": dict(os.environ)}}))
"""
"""Program in place of uv: it prints its arguments, and runs nothing."""
PYTHON = {
    "PYTHONOPTIMIZE": "1", "PYTHONPATH": "/nowhere", "PYTHONHOME": "/nowhere", "PYTHONSTARTUP": "/nowhere", "PYTHONWARNINGS": "error",
    "PYTHONINSPECT": "1", "PYTHONUTF8": "0", "PYTHONOFTOMORROW": "1",
}  # fmt: skip
CACHES = {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPYCACHEPREFIX": "/nowhere"}


def make(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run make as from a shell, not as from another make."""
    own = {name: value for name, value in of_a_shell().items() if name not in ("STACK", "ESTATE_STACK")}
    return subprocess.run(
        ["make", *words], cwd=PROJECT, env=own | environment, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a PATH on which uv prints its arguments."""
    folder = tmp_path_factory.mktemp("uv")
    uv = folder / "uv"
    uv.write_text(UV.format(python=sys.executable))
    uv.chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


def test_there_are_few_targets_and_help_lists_each() -> None:
    assert len(TARGETS) <= 8
    assert re.findall(r"^  make (\S+)", make("help").stdout, re.MULTILINE) == TARGETS


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_takes_a_stack_and_no_other_variable(target: str) -> None:
    assert make("--dry-run", target, "STACK=dev").returncode == 0
    for given in ("STAK=dev", "FORCE=1", "stack=dev", "ESTATE_STACK=dev"):
        refused = make("--dry-run", target, given)
        assert refused.returncode == 2
        (line,) = refused.stderr.splitlines()
        assert f"make takes no {given.partition('=')[0]}, but STACK=<stack>" in line


@pytest.mark.parametrize("given", ["", " ", "a b"])
def test_the_name_of_a_stack_is_one_word(given: str) -> None:
    refused = make("--dry-run", "up", f"STACK={given}")
    assert refused.returncode == 2
    (line,) = refused.stderr.splitlines()
    assert f"STACK='{given.strip()}': the name of a stack is one word" in line


def test_the_stack_arrives_as_it_was_typed(path: str, tmp_path: Path) -> None:
    made = tmp_path / "made"
    hostile = f"'`touch${{IFS}}{made}`$(touch${{IFS}}{made})\"$(shell${{IFS}}touch${{IFS}}{made})$$\\#;*"
    done = make("up", f"STACK={hostile}", PATH=path)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["environment"]["ESTATE_STACK"] == hostile
    assert seen["words"][-2:] == ["estate", "up"]
    assert not made.exists()


def test_a_stack_of_the_environment_is_the_same_stack(path: str) -> None:
    assert json.loads(make("up", PATH=path, ESTATE_STACK="dev").stdout)["environment"]["ESTATE_STACK"] == "dev"


@pytest.mark.parametrize("given", [PYTHON | CACHES, CACHES, {}], ids=["all", "caches", "none"])
def test_a_target_sees_no_variable_of_python_but_those_of_its_caches(given: dict[str, str]) -> None:
    words = ["make", "--no-print-directory", "--eval", "probe: ; @env", "probe"]
    done = subprocess.run(words, cwd=PROJECT, env=os.environ | given, capture_output=True, text=True, check=True)
    seen = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    assert {name: value for name, value in seen.items() if name.startswith("PYTHON")} == {
        name: value for name, value in CACHES.items() if name in given
    }
    assert seen["UV_PYTHON_DOWNLOADS"] == "never"
