"""Plain Pulumi in a shell that `estate env` has prepared works as the command does, and leaves nothing behind that breaks it."""

import os
import subprocess
from collections.abc import Iterator

import pytest

from estate.core.paths import PROJECT
from estate.stack.model import Stack
from tests.support.stacks import estate

INHERITED = ("HOME", "PATH")


@pytest.fixture(autouse=True)
def file_as_before(stack: Stack) -> Iterator[None]:
    """Restore the stack's file: Pulumi keeps the salt of the passphrase there."""
    before = stack.file.read_text()
    yield
    stack.file.write_text(before)


def plain(*commands: str) -> str:
    """Run commands in one fresh shell, and return their output."""
    prepared = {name: os.environ[name] for name in INHERITED if name in os.environ}
    script = "\n".join(["set -e", 'eval "$(.venv/bin/estate env)"', *commands])
    done = subprocess.run(
        ["bash", "-c", script], env=prepared, cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_command_and_plain_pulumi_take_turns_without_a_change(stack: Stack) -> None:
    select = f"pulumi stack select {stack.name}"
    plain(select, "pulumi preview --expect-no-changes")
    plain(select, "pulumi refresh --preview-only --expect-no-changes")
    shown = plain(select, "pulumi up --yes --skip-preview --expect-no-changes", "pulumi stack output gateway_url")
    assert stack.settings.ingress.host in shown
    for goal in ("preview", "urls", "token"):
        done = estate(goal, stack=stack.name)
        assert done.returncode == 0, done.stdout + done.stderr
    plain(select, "pulumi preview --expect-no-changes")


def test_another_passphrase_reads_no_secret(stack: Stack) -> None:
    select = f"pulumi stack select {stack.name}"
    without = "env --unset=PULUMI_CONFIG_PASSPHRASE_FILE PULUMI_CONFIG_PASSPHRASE=another"
    refused = plain(select, f"{without} pulumi stack export --show-secrets 2>&1 || true")
    assert "incorrect passphrase" in refused
