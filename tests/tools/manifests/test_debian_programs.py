"""The programs that tests run apart from ours run on this machine, with libraries of their own."""

import subprocess
from pathlib import Path

import pytest

from estate.core.console import EstateError
from estate.tools.debian_programs import DebianPrograms, debian_programs


@pytest.fixture(scope="module")
def programs() -> DebianPrograms:
    return debian_programs()


@pytest.mark.parametrize("command", ["haproxy -v", "nginx -v", "redis-server --version", "psql --version"])
def test_a_program_runs(command: str, programs: DebianPrograms) -> None:
    subprocess.run(programs.command(*command.split()), env=programs.environment, capture_output=True, check=True)


def test_postgres_runs_for_root_too(programs: DebianPrograms, tmp_path: Path) -> None:
    initdb = programs.unprivileged_command("initdb", "--no-sync", "--username=admin", f"--pgdata={tmp_path / 'data'}")
    subprocess.run(initdb, env=programs.environment, capture_output=True, check=True)
    assert (tmp_path / "data" / "PG_VERSION").is_file()


def test_a_program_of_the_machine_is_not_taken_in_place(programs: DebianPrograms) -> None:
    with pytest.raises(EstateError, match="has the program sh"):
        programs.command("sh")
