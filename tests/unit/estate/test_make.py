"""The goals of the Makefile: their variables, and their output when they fail."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from estate.cli.main import main as estate
from estate.cluster import layout, lifecycle
from estate.core.console import say, step, timed
from estate.core.paths import PROJECT
from tests.support.copies import of_a_shell

MAKEFILE = (PROJECT / "Makefile").read_text()
GOALS = dict(re.findall(r"^([a-z-]+):.*## (.*)$", MAKEFILE, re.MULTILINE))
"""Goals, each with its line of help."""
RECIPES = dict(re.findall(r"^([a-z-]+):.*## .*\n\t(.*)$", MAKEFILE, re.MULTILINE))
VARIABLE = re.compile(r"\b[A-Z_]+=[^\s,]+")
EVERYWHERE = ("TOOLS", "KUBE_CONTEXT", "BACKEND")
VARIABLES = sorted(
    {*EVERYWHERE, *(given.partition("=")[0] for line in GOALS.values() for given in VARIABLE.findall(line))}
)
"""All variables that a user may pass to make."""
COMMANDS = [goal for goal, recipe in RECIPES.items() if "$(ESTATE)" in recipe]
ON_STACKS = [goal for goal in COMMANDS if "STACK=" in GOALS[goal]]
NEEDED = {
    goal: set(names.split())
    for goal, names in re.findall(r"^([a-z-]+):.*\n\t@\$\(call require,(.*?)\)", MAKEFILE, re.MULTILINE)
}


UV = """#!{python}
import json, os, sys
print(json.dumps({{"words": sys.argv[1:], "environment": dict(os.environ)}}))
"""
"""Program in place of uv: it prints its arguments, and runs nothing."""


def run_make(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run make as from a shell, not as from another make."""
    own = {name: value for name, value in of_a_shell().items() if name not in VARIABLES}
    return subprocess.run(
        ["make", *words], cwd=PROJECT, env=own | environment, capture_output=True, text=True, check=False
    )


def make(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Return make's dry run."""
    return run_make("--dry-run", *words, **environment)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a PATH on which uv prints its arguments."""
    folder = tmp_path_factory.mktemp("uv")
    uv = folder / "uv"
    uv.write_text(UV.format(python=sys.executable))
    uv.chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


def refused(done: subprocess.CompletedProcess[str]) -> str:
    """Return the one line with which make refused a command."""
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
    used = set(re.findall(r"\$\$\{?([A-Z_]+)", RECIPES.get(goal, "")))
    assert used <= {given.partition("=")[0] for given in VARIABLE.findall(GOALS[goal])}


def test_recipes_name_what_a_person_gives_to_the_shell_alone_and_in_quotes() -> None:
    recipes = "\n".join(re.findall(r"^\t.*", MAKEFILE, re.MULTILINE))
    names = "|".join(VARIABLES)
    assert re.findall(rf"\$[({{](?:value +)?(?:{names})[)}}]", recipes) == []
    quoted = rf"\"\$\$(?:(?:{names})|{{(?:{names}):-[^}}]*}})\""
    unquoted = re.sub(rf"{quoted}|\$\${{(?:{names}):\+{quoted}}}", "", recipes)
    assert re.findall(rf"\$\${{?(?:{names})\b", unquoted) == []


HOSTILE = "O'Brien \" `touch {made}` $(touch {made}) $(shell touch {made}) ${{HOME}} $HOME $$ \\ # ; touch {made}; * '"


@pytest.mark.parametrize("goal", ON_STACKS + [goal for goal in COMMANDS if goal in NEEDED and goal not in ON_STACKS])
@pytest.mark.parametrize("environment", [False, True], ids=["given", "environment"])
def test_what_is_given_arrives_as_it_was_typed(goal: str, path: str, tmp_path: Path, *, environment: bool) -> None:
    made = tmp_path / "made"
    hostile = HOSTILE.format(made=made)
    taken = [variable.partition("=")[0] for variable in VARIABLE.findall(GOALS[goal])]
    # make itself checks that a switch is 1 and that the name of a stack is one word.
    given = {name: hostile for name in (*taken, *EVERYWHERE) if name not in ("STACK", "FORCE", "JSON", "DATABASE")}
    if "STACK" in taken:
        given["STACK"] = f"'`touch${{IFS}}{made}`$(touch${{IFS}}{made})\"$(shell${{IFS}}touch${{IFS}}{made})"
    words = [] if environment else [f"{name}={value}" for name, value in given.items()]
    done = run_make(goal, *words, PATH=path, **(given if environment else {}))
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert {name: seen["environment"][name] for name in given} == given
    command = seen["words"].index("estate") + 1
    defaults = {variable.partition("=")[2] for variable in VARIABLE.findall(GOALS[goal])}
    assert set(seen["words"][command:]) <= {"", *given.values(), *defaults, *re.findall(r"[\w/-]+", RECIPES[goal])}
    assert not made.exists()


@pytest.mark.parametrize("goal", GOALS)
def test_a_variable_that_is_given_has_a_value(goal: str) -> None:
    given = VARIABLE.findall(GOALS[goal])
    for name in {*(variable.partition("=")[0] for variable in given), *EVERYWHERE} - {"STACK"}:
        others = [variable for variable in given if not variable.startswith(f"{name}=")]
        for blank in ("", " "):
            assert f"make {goal} was given no value of {name}" in refused(make(goal, *others, f"{name}={blank}"))


@pytest.mark.parametrize("goal", [goal for goal, line in GOALS.items() if re.search(r"\b[A-Z]+=1\b", line)])
@pytest.mark.parametrize("value", ["0", "no", "yes", "11", "1 0", "true"])
def test_a_switch_is_1_or_not_given(goal: str, value: str) -> None:
    (name,) = re.findall(r"\b([A-Z]+)=1\b", GOALS[goal])
    others = [variable for variable in VARIABLE.findall(GOALS[goal]) if variable != f"{name}=1"]
    assert f"make {goal} takes {name}=1, or no {name} at all" in refused(make(goal, *others, f"{name}={value}"))
    assert make(goal, *others, f"{name}=1").returncode == 0


@pytest.mark.parametrize("goal", NEEDED)
def test_what_a_goal_needs_is_named_with_an_example(goal: str) -> None:
    for name in NEEDED[goal]:
        others = [variable for variable in VARIABLE.findall(GOALS[goal]) if not variable.startswith(f"{name}=")]
        line = refused(make(goal, *others))
        assert f"make {goal} needs {name}, as in make {goal} " in line
        assert re.search(rf" {name}=\S", line)


@pytest.mark.parametrize("goal", COMMANDS)
def test_no_stack_is_an_empty_one(goal: str) -> None:
    assert "STACK=''" in refused(make(goal, STACK=""))


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, path: str
) -> Callable[..., str]:
    """Return a function that runs a goal's recipe, here and without a cluster, and returns the error."""
    monkeypatch.delenv("TOOLS", raising=False)
    monkeypatch.setattr(layout, "KUBECONFIG", tmp_path / "kubeconfig")
    monkeypatch.setattr(lifecycle, "start", pytest.fail)
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]

    def fail(goal: str, *given: str) -> str:
        seen = json.loads(run_make(goal, *given, PATH=path).stdout)
        _, *arguments = seen["words"][seen["words"].index("estate") :]
        for name in VARIABLES:
            if name in seen["environment"]:
                monkeypatch.setenv(name, seen["environment"][name])
        with pytest.raises(SystemExit) as ended:
            estate(arguments)
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
