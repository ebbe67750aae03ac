"""The command `estate`: its exit codes, its options, and its help."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from estate.cli.main import main
from estate.cluster import layout, lifecycle
from estate.core.console import EstateError, say, step, timed
from estate.core.environment import CONTEXT, TARGET
from estate.core.paths import PROJECT
from estate.delivery import drift
from estate.ops import tokens
from estate.report import status


def words_of(group: TyperGroup, *before: str) -> Iterator[list[str]]:
    """Yield the words of every command."""
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from words_of(command, *before, name)
        else:
            yield [*before, name]


ALL = get_command(main)
assert isinstance(ALL, TyperGroup)


def options_of(group: TyperGroup, words: list[str]) -> list[str]:
    """Return the options of a command."""
    command = group
    for word in words:
        assert isinstance(command, TyperGroup)
        command = command.commands[word]
    return [name for parameter in command.params for name in parameter.opts]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Restore the variables that the command sets."""
    for name in (TARGET, CONTEXT):
        monkeypatch.setenv(name, "")


def code_of(*words: str) -> int:
    """Return the exit code of a command."""
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.mark.parametrize("words", [*words_of(ALL)], ids=" ".join)
def test_every_command_has_help(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert code_of(*words, "--help") == 0
    printed = capsys.readouterr()
    assert re.match(rf"Usage: .* {' '.join(words)} \[OPTIONS\]", printed.out)
    assert printed.err == ""


@pytest.mark.parametrize(("well", "code"), [(True, 0), (False, 3)])
def test_a_deviation_has_an_exit_code_of_its_own(well: bool, code: int, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: FBT001
    monkeypatch.setattr(status, "show", lambda _name, **_options: well)  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
    monkeypatch.setattr(drift, "differs", lambda _name: not well)  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
    assert code_of("status") == code_of("drift") == code


def test_a_failure_is_one_line_on_standard_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_name: str) -> None:
        raise EstateError("it is so")

    monkeypatch.setattr(tokens, "show_token", fail)
    assert code_of("token") == 1
    assert capsys.readouterr() == ("", "error: it is so\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["statu"], "Did you mean 'status'?"),
        (["status", "--stak", "dev"], "Possible options: --stack"),
        (["restore"], "Missing option '--stack'"),
        (["down"], "Missing option '--stack'"),
        (["dashboard", "--minutes", "0"], "--minutes"),
        (["dashboard", "--minutes", "some"], "--minutes"),
        (["promote", "dev"], "Missing argument 'TO'"),
        (["client", "add", "billing"], "Missing option '--username'"),
    ],
)
def test_a_command_that_is_not_understood_ends_with_2(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert code_of(*words) == 2
    printed = capsys.readouterr()
    assert said in printed.err
    assert printed.out == ""


def test_the_stack_comes_from_the_environment_where_no_data_may_be_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(tokens, "show_token", asked.append)
    monkeypatch.setenv("ESTATE_STACK", "dev")
    assert code_of("token") == code_of("token", "--stack", "prod") == code_of("token", "-s", "staging") == 0
    assert asked == ["dev", "prod", "staging"]
    assert code_of("down") == code_of("restore") == 2


def test_the_command_imports_nothing_of_what_it_does_before_it_is_asked() -> None:
    heavy = ("pulumi", "infra.s", "infra.values", "pydantic", "httpx", "yaml")
    code = f"import sys, estate.cli.main; print(*(name for name in sys.modules if name.startswith({heavy})))"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


NEEDED: dict[tuple[str, ...], list[str]] = {
    ("promote",): ["dev", "staging"],
    ("review", "create"): ["12"],
    ("secret", "set"): ["postgresPassword"],
    ("client", "add"): ["billing", "--username=billing", "--user-id=7"],
    ("new", "service"): ["orders"],
}
"""Arguments that a command needs."""
ON_STACKS = [[*words, *NEEDED.get(tuple(words), [])] for words in words_of(ALL) if "--stack" in options_of(ALL, words)]


@pytest.mark.parametrize("words", ON_STACKS, ids=" ".join)
def test_an_unknown_stack_is_refused_and_nothing_printed_that_is_captured(
    words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle, "start", pytest.fail)
    assert code_of(*words, "--stack", "nope") == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("error: there is no stack 'nope'")
    assert printed.out == ""


@pytest.mark.parametrize(
    "words", ["env", "token", "urls", "operator-secret", "status", "dashboard", "logs", "backup create"]
)
def test_without_a_cluster_nothing_is_printed_that_is_captured(
    words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(layout, "KUBECONFIG", tmp_path / "kubeconfig")
    assert code_of(*words.split()) == 1
    printed = capsys.readouterr()
    assert printed.err.startswith("error: there is no embedded cluster yet")
    assert printed.out == ""


def test_progress_is_not_captured(capsys: pytest.CaptureFixture[str]) -> None:
    with timed(), step("pictures"):
        say("result")
    printed = capsys.readouterr()
    assert printed.out == "result\n"
    assert "pictures ✓" in printed.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["review", "create", "0"], "'0' is no number of a pull request"),
        (["diff", "--base=--all"], "--base --all is no revision"),
        (["diff", "--base=nope"], "--base nope is no commit of this clone"),
        (["promote", "dev", "dev"], "dev cannot take its own release"),
        (["secret", "set", "postgresPasword"], "did you mean postgresPassword?"),
        (["client", "add", "billing", "--username=billing", "--user-id=x"], "--user-id wants 1 to 15 of the digits"),
        (["client", "add", "billing", "--username=", "--user-id=7"], "--username is missing"),
        (["--target", "docker", "env"], "--target docker (ESTATE_TARGET) is unknown"),
        (["--context", "kind", "env"], "add --target system"),
        (["restore", "--stack=local", ""], "the name of the backup is empty"),
        (["logs", "--request="], "--request is empty"),
        (["new", "service", "orders", "--calls="], "--calls names ''"),
    ],
)
def test_a_value_that_is_refused_ends_with_2(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert code_of(*words) == 2
    printed = capsys.readouterr()
    assert said in printed.err
    assert len(printed.err.splitlines()) == 1
    assert printed.out == ""
