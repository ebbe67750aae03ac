"""Rotation of the database password under load, and a repeated run after an interruption."""

import os
import signal
import subprocess
import sys
import time

import httpx
import pytest

from estate.core.paths import PROJECT
from estate.ops.database_password import active, password_of
from estate.stack.model import Stack, secret
from infra.database_names import DATABASE, PUBLIC
from tests.support.load import Load
from tests.support.running import STACK

ROTATE = [sys.executable, "-m", "estate", "db-password", "rotate", "--stack", STACK]
LOG_IN = (
    f"read -r PGPASSWORD; export PGPASSWORD; psql --quiet --no-psqlrc 'host=127.0.0.1 sslmode=require dbname={DATABASE}'"
    " --username=$0 --command='SELECT count(*) FROM users'"
)


def accepted(stack: Stack, login: str, password: str) -> bool:
    """Return whether Postgres accepts a login with a password, and lets it read the users."""
    command = stack.kubectl("exec", "--stdin", "statefulset/postgres", "--", "sh", "-c", LOG_IN, login)
    done = subprocess.run(
        command, input=password + "\n", env=stack.target.environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 or "password authentication failed" in done.stderr, done.stderr
    return done.returncode == 0


def in_use(stack: Stack) -> tuple[str, str]:
    """Return the login and password that the services use."""
    login = active(stack)
    return PUBLIC.logins[login], secret(stack, password_of(login))


def rotate() -> None:
    started = time.monotonic()
    done = subprocess.run(ROTATE, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    print(f"rotate-database-password: {time.monotonic() - started:.0f} s")


@pytest.mark.timeout(1200)
def test_the_password_is_replaced_without_a_failed_request_although_the_first_run_was_killed(
    stack: Stack, client: httpx.Client
) -> None:
    old = in_use(stack)
    assert accepted(stack, *old)
    with Load(client) as load:
        with subprocess.Popen(ROTATE, cwd=PROJECT, stdout=subprocess.PIPE, text=True, start_new_session=True) as killed:
            assert killed.stdout
            assert any(line.startswith("Step 2 of 3") for line in killed.stdout)
            load.run(8)  # somewhere in the middle of it
            os.killpg(killed.pid, signal.SIGKILL)
        rotate()
        load.run(5)
    print(dict(load.answers))
    assert load.failures() == {}
    assert load.stale == []
    assert load.lost() == []
    load.tidy()
    assert accepted(stack, *in_use(stack))
    assert not accepted(stack, *old)
