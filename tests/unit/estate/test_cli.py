"""The command `estate`: its exit codes, its options, and its help."""

import subprocess
import sys
from collections.abc import Iterator

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from estate.cli.main import main
from estate.core.console import EstateError
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
    assert f"Usage: {' '.join(words)}" in printed.out.replace("root ", "").replace("pytest ", "")
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
    code = "import sys, estate.cli.main; print(*(name for name in sys.modules if name.startswith(('pulumi', 'infra', 'httpx', 'yaml'))))"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
