"""Permissions in the database: tried as each login, inside Postgres' pod."""

import subprocess

import pytest

from estate.stack.model import Stack
from infra.database_names import DATABASE
from tests.support.running import Kubectl

ROWS = "SELECT count(*) FROM users; UPDATE users SET age = age WHERE id = 0; SELECT nextval('cache_generation');"


def psql(stack: Stack, statements: str, where: str = "") -> tuple[int, str]:
    """Return exit code and output of psql."""
    inside = ["psql", "-qAtX", "-v", "ON_ERROR_STOP=1", f"dbname={DATABASE} {where}"]
    done = subprocess.run(
        stack.kubectl("exec", "--stdin", "statefulset/postgres", "--", *inside),
        input=statements, env=stack.target.environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def test_postgres_refuses_what_comes_in_the_clear(stack: Stack) -> None:
    code, said = psql(stack, "SELECT 1", "host=127.0.0.1 user=myuser_a sslmode=disable")
    assert code != 0
    assert "no encryption" in said


def test_every_connection_from_the_network_is_by_tls(stack: Stack) -> None:
    from_network = "FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE client_addr IS NOT NULL"
    code, said = psql(stack, f"SELECT count(*) > 0, bool_and(ssl) {from_network}")
    assert (code, said.strip()) == (0, "t|t")


@pytest.mark.parametrize("ca", ["/etc/ssl/certs/ca-certificates.crt", None])
def test_a_service_refuses_a_server_that_its_authority_does_not_know(kubectl: Kubectl, ca: str | None) -> None:
    trying = f"""
import asyncio, os, ssl, asyncpg
from servicekit.settings import load
from user_service.settings import UserSettings
database = load(UserSettings, os.environ).database
context = ssl.create_default_context(cafile={ca!r}) if {ca!r} else database.tls()
try:
    asyncio.run(asyncpg.connect(host=database.host, user=database.username, database=database.name,
        password=database.password.get_secret_value(), ssl=context))
except ssl.SSLCertVerificationError:
    print("refused")
else:
    print("connected")
"""
    said = kubectl("exec", "deployment/user-service", "--", "/app/.venv/bin/python", "-c", trying)
    assert said.strip() == ("refused" if ca else "connected")


@pytest.mark.parametrize("login", ["myuser_a", "myuser_b"])
def test_a_services_login_reads_and_writes_rows(stack: Stack, login: str) -> None:
    code, said = psql(stack, f"BEGIN; SET ROLE {login}; {ROWS} ROLLBACK;")
    assert code == 0, said


@pytest.mark.parametrize(
    "forbidden",
    [
        "CREATE TABLE mine ()",
        "CREATE SCHEMA mine",
        "CREATE ROLE mine",
        "CREATE TEMPORARY TABLE mine ()",
        "DROP TABLE users",
        "TRUNCATE users",
        "ALTER TABLE users ADD COLUMN mine int",
        "SET ROLE myuser_owner",
        "COPY users TO PROGRAM 'cat'",
    ],
)
def test_a_services_login_changes_no_schema(stack: Stack, forbidden: str) -> None:
    code, said = psql(stack, f"BEGIN; SET SESSION AUTHORIZATION myuser_a; {forbidden}; ROLLBACK;")
    assert code != 0
    assert any(reason in said for reason in ("permission denied", "must be owner", "must be superuser"))


def test_a_table_of_a_later_migration_is_the_services_too(stack: Stack) -> None:
    made = "SET ROLE myuser_owner; CREATE TABLE later (id bigint GENERATED ALWAYS AS IDENTITY, at bigserial);"
    used = "SET ROLE myuser_b; INSERT INTO later DEFAULT VALUES; UPDATE later SET at = 1; DELETE FROM later;"
    code, said = psql(stack, f"BEGIN; {made} {used} ROLLBACK;")
    assert code == 0, said


def test_the_login_of_dumps_reads_everything_and_writes_nothing(stack: Stack) -> None:
    code, said = psql(stack, "SET ROLE backup; SELECT count(*) FROM users; SELECT last_value FROM cache_generation;")
    assert code == 0, said
    for forbidden in ("DELETE FROM users", "CREATE TABLE mine ()", "SELECT nextval('cache_generation')"):
        code, said = psql(stack, f"SET ROLE backup; {forbidden}")
        assert code != 0, forbidden
        assert "permission denied" in said


def test_only_postgres_is_a_superuser_and_the_owner_owns_all_tables(stack: Stack) -> None:
    _, superusers = psql(stack, "SELECT rolname FROM pg_roles WHERE rolsuper")
    assert superusers.split() == ["postgres"]
    _, owners = psql(stack, "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'")
    assert owners.split() == ["myuser_owner"]
