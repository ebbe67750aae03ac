"""Every command of the README and the docs runs: here where it changes nothing, otherwise in the named test."""

import re
import subprocess

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from estate.cli.main import main
from estate.core.paths import PROJECT
from tests.support.running import STACK
from tests.support.stacks import estate, stack_file

HERE = {
    "client add": ("billing", "--username=billing", "--user-id=7"),
    "dashboard": ("--minutes=5",),
    "docs architecture": (),
    "docs licences": (),
    "docs openapi": (),
    "docs stack-schema": (),
    "env": (),
    "operator-secret": (),
    "preview": (),
    "render": (),
    "token": (),
    "urls": ("alertmanager",),
}
"""Commands with their arguments; they write only files that are in the project already, or in build/."""
ELSEWHERE = {
    "audit": "tests/unit/test_delivery.py",
    "backup create": "tests/faults/test_restore.py",
    "browser": "tests/lanes.py",
    "cluster start": "tests/faults/test_cluster.py",
    "cluster stop": "tests/faults/test_cluster.py",
    "db-password rotate": "tests/faults/test_database_rotation.py",
    "diff": "tests/tools/manifests/test_delivery.py",
    "docs sbom": "tests/unit/test_delivery.py",
    "down": "tests/support/stacks.py",
    "drift": "tests/live/test_delivery.py",
    "keys retire": "tests/faults/test_rotation.py",
    "keys rotate": "tests/faults/test_rotation.py",
    "logs": "tests/live/test_logs.py",
    "new service": "tests/unit/estate/test_new_service.py",
    "policy check": "tests/tools/manifests/test_policies.py",
    "promote": "tests/live/test_promotion.py",
    "restore": "tests/faults/test_restore.py",
    "review create": "tests/live/test_commands.py",
    "rollback": "tests/stages/test_release.py",
    "secret set": "tests/alerts/test_receivers.py",
    "status": "tests/live/test_dashboards.py",
    "up": "tests/stages/test_release.py",
}
"""Commands that change state or take long, with the test that runs them."""
BY_HAND = {
    "cluster reset": "would delete the stack that the tests are about",
    "tools build": "estate up does the same first",
}
"""Commands that no test runs, with the reason."""
PAGES = [PROJECT / "README.md", PROJECT / "CONTRIBUTING.md", *sorted((PROJECT / "docs").rglob("*.md"))]
NAMED = re.compile(r"(?:^|`|\$\()estate ((?:--[a-z]+ \S+ )*)([a-z][a-z-]*)(?: ([a-z][a-z-]*))?", re.MULTILINE)
COMMANDS = get_command(main)
assert isinstance(COMMANDS, TyperGroup)


def command_of(first: str, second: str) -> str:
    """Return the name of the command that two words begin with."""
    assert isinstance(COMMANDS, TyperGroup)
    assert first in COMMANDS.commands, f"estate {first} is no command"
    group = COMMANDS.commands[first]
    if not isinstance(group, TyperGroup):
        return first
    assert second in group.commands, f"estate {first} {second} is no command"
    return f"{first} {second}"


def named() -> set[str]:
    """Return the commands that the pages name: in backquotes, and in examples for a shell."""
    texts = [page.read_text() for page in PAGES]
    code = [
        part
        for text in texts
        for parts in re.findall(r"```sh\n(.*?)```|(`[^`\n]+`)", text, re.DOTALL)
        for part in parts
    ]
    found = (match for part in code for match in NAMED.finditer(part))
    return {command_of(match[2], match[3] or "") for match in found}


def test_every_command_of_a_page_is_run_by_a_test() -> None:
    unknown = named() - HERE.keys() - ELSEWHERE.keys() - BY_HAND.keys()
    assert not unknown, f"write a test that runs them, and name it here: {unknown}"


@pytest.mark.parametrize(("command", "file"), ELSEWHERE.items())
def test_the_named_file_runs_a_command(command: str, file: str) -> None:
    words = ", ".join(f'"{word}"' for word in command.split())
    assert re.search(rf"\(\s*{words}|\"estate\", {words}|packages\.write_components\(\)", (PROJECT / file).read_text())


def changes() -> str:
    """Return the uncommitted changes of the pages and documents that commands write."""
    difference = ["git", "diff", "HEAD", "--", "docs", "apps", "stacks"]
    return subprocess.run(difference, cwd=PROJECT, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("command", HERE)
def test_a_command_that_only_looks_succeeds_and_changes_nothing(command: str) -> None:
    before = changes()
    on_stack = "" if command.startswith("docs ") or command == "env" else STACK
    done = estate(*command.split(), *HERE[command], stack=on_stack)
    assert done.returncode == 0, done.stdout + done.stderr
    assert changes() == before


def test_the_stack_of_a_pull_request_is_written() -> None:
    done = estate("review", "create", "9999999999")
    stack_file("pr-9999999999").unlink(missing_ok=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Stack pr-9999999999 of this pull request: https://pr-9999999999." in done.stdout
