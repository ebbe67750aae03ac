"""The goals of the Makefile: the variables that they take, and what they print where they fail."""

import importlib
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from toolchain.cluster import __main__ as cluster
from toolchain.cluster import layout
from toolchain.console import run_command, say, step, timed
from toolchain.paths import PROJECT

MAKEFILE = (PROJECT / "Makefile").read_text()
GOALS = dict(re.findall(r"^([a-z-]+):.*## (.*)$", MAKEFILE, re.MULTILINE))
"""Goals, each with its line of help."""
RECIPES = dict(re.findall(r"^([a-z-]+):.*## .*\n\t(.*)$", MAKEFILE, re.MULTILINE))
VARIABLE = re.compile(r"\b[A-Z_]+=[^\s,]+")
COMMANDS = [goal for goal, recipe in RECIPES.items() if "python -m toolchain." in recipe]
ON_STACKS = [goal for goal in COMMANDS if "STACK=" in GOALS[goal]]
NEEDED = {
    goal: set(names.split())
    for goal, names in re.findall(r"^([a-z-]+):.*\n\t@\$\(call require,(.*?)\)", MAKEFILE, re.MULTILINE)
}


def make(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Have make say what it would run, as from a shell and not as from another make."""
    own = {
        name: value for name, value in os.environ.items() if name not in ("MAKELEVEL", "MAKEFLAGS", "STACK", "TOOLS")
    }
    return subprocess.run(
        ["make", "--dry-run", *words], cwd=PROJECT, env=own | environment, capture_output=True, text=True, check=False
    )


def refused(done: subprocess.CompletedProcess[str]) -> str:
    """Return the one line that make has refused a command with."""
    assert done.returncode == 2, done
    (line,) = done.stderr.splitlines()
    return line


@pytest.mark.parametrize("goal", GOALS)
def test_a_goal_takes_the_variables_of_its_help_and_no_other(goal: str) -> None:
    given = VARIABLE.findall(GOALS[goal])
    assert make(goal, *given).returncode == 0
    assert f" *** make {goal} does not take STAK, but " in refused(make(goal, *given, "STAK=dev"))


def test_goals_together_take_the_variables_of_each() -> None:
    assert make("up", "url", "FORCE=1", "OF=gateway", "TOOLS=system", "KUBE_CONTEXT=kind").returncode == 0
    assert "does not take MINUTES" in refused(make("up", "url", "FORCE=1", "MINUTES=5"))


def test_a_make_within_make_has_the_variables_of_the_outer_one() -> None:
    assert make("cluster", "STACK=dev", MAKELEVEL="1").returncode == 0


@pytest.mark.parametrize("goal", GOALS)
def test_every_variable_of_a_recipe_is_in_the_help(goal: str) -> None:
    used = set(re.findall(r"\$\((?:or \$\()?([A-Z]+)\)", RECIPES.get(goal, ""))) - {"RUN", "UV", "MAKE"}
    assert used <= {given.partition("=")[0] for given in VARIABLE.findall(GOALS[goal])}


@pytest.mark.parametrize("goal", NEEDED)
@pytest.mark.parametrize("given", ["", " "])
def test_what_a_goal_needs_is_named_with_an_example(goal: str, given: str) -> None:
    for name in NEEDED[goal]:
        others = [variable for variable in VARIABLE.findall(GOALS[goal]) if not variable.startswith(f"{name}=")]
        line = refused(make(goal, *others, f"{name}={given}"))
        assert f"make {goal} needs {name}, as in make {goal} " in line
        assert re.search(rf" {name}=\S", line)


@pytest.mark.parametrize("goal", COMMANDS)
def test_no_stack_is_an_empty_one(goal: str) -> None:
    assert "STACK=''" in refused(make(goal, STACK=""))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., str]:
    """Run what a goal's recipe does, here and without a cluster; return the error."""
    monkeypatch.delenv("TOOLS", raising=False)
    monkeypatch.setattr(layout, "KUBECONFIG", tmp_path / "kubeconfig")
    monkeypatch.setattr(cluster, "start", pytest.fail)
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]

    def fail(goal: str, *given: str) -> str:
        words = shlex.split(make(goal, *given).stdout.splitlines()[-1])
        module, *arguments = words[words.index("-m") + 1 :]
        for name, _, value in (word.partition("=") for word in words[: words.index("-m")] if "=" in word):
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", [module, *arguments])
        with pytest.raises(SystemExit) as ended:
            run_command(importlib.import_module(module).main)
        printed = capsys.readouterr()
        assert (ended.value.code, printed.out) == (1, "")
        return printed.err

    return fail


@pytest.mark.parametrize("goal", ON_STACKS)
def test_a_command_that_fails_prints_nothing_to_be_captured(goal: str, run: Callable[..., str]) -> None:
    given = [variable for variable in VARIABLE.findall(GOALS[goal]) if not variable.startswith("STACK=")]
    assert run(goal, *given, "STACK=nope").startswith("error: there is no stack 'nope'")


@pytest.mark.parametrize("goal", ["env", "token", "url", "operator-secret", "status", "dashboard", "logs", "backup"])
def test_without_a_cluster_there_is_nothing_to_be_captured(goal: str, run: Callable[..., str]) -> None:
    assert run(goal).startswith("error: there is no embedded cluster yet")


def test_progress_is_nothing_to_be_captured(capsys: pytest.CaptureFixture[str]) -> None:
    with timed(), step("pictures"):
        say("result")
    printed = capsys.readouterr()
    assert printed.out == "result\n"
    assert "pictures ✓" in printed.err
